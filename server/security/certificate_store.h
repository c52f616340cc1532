// The server's certificate and key, and the certificates that clients must show, kept valid.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/core/mutex.h"

namespace moed {

struct CertificatePaths {
  std::string certificate;  // PEM, the server's first, then its chain
  std::string key;          // PEM
  std::string client_ca;    // PEM; empty: clients need no certificate
};

struct Certificates {
  std::string certificate_pem;
  std::string key_pem;
  std::string client_ca_pem;  // empty: clients need no certificate

  bool operator==(const Certificates&) const = default;
};

// Thread-safe.
class CertificateStore {
 public:
  using Listener = std::function<void(const Certificates&)>;

  // Reads and checks: PEM that parses, a key that belongs to the certificate and needs no
  // passphrase, valid now. The error names the file and what is wrong.
  static absl::StatusOr<std::shared_ptr<CertificateStore>> Load(CertificatePaths paths);

  // Reads the files again. OK and true: their content has changed, and the listeners have been
  // told. On an error, which the daemon logs and counts, what was there stays: half of a pair that
  // is being exchanged does no harm.
  absl::StatusOr<bool> Reload();

  Certificates current() const;
  // Grows with every change of current(): a cheap way to ask whether there was one.
  uint64_t version() const;
  std::chrono::system_clock::time_point expires_at() const;  // of the server's certificate

  bool wants_client_certificates() const { return !paths_.client_ca.empty(); }

  // Called by Reload on its thread, with what is new, one call at a time; must not call Reload.
  void OnChange(Listener listener);

 private:
  explicit CertificateStore(CertificatePaths paths) : paths_(std::move(paths)) {}

  const CertificatePaths paths_;
  Mutex reload_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);  // two reloads do not pass each other
  mutable Mutex mutex_;
  Certificates current_ ABSL_GUARDED_BY(mutex_);
  uint64_t version_ ABSL_GUARDED_BY(mutex_) = 0;
  std::chrono::system_clock::time_point expires_at_ ABSL_GUARDED_BY(mutex_);
  std::vector<Listener> listeners_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moed
