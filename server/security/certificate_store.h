// The server's certificate and key, and the certificates that clients must show, kept valid.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
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
};

// Thread-safe.
class CertificateStore {
 public:
  // Reads and checks: PEM that parses, a key that belongs to the certificate, not expired. The
  // error names the file and what is wrong.
  static absl::StatusOr<std::shared_ptr<CertificateStore>> Load(CertificatePaths paths);

  // Reads the files again where they have changed (their content, not their times). OK and true:
  // there is something new, which the listeners have been told. On an error, which the daemon logs
  // and counts, what was there stays: half of a pair that is being exchanged does no harm.
  absl::StatusOr<bool> Reload();

  Certificates current() const;
  std::chrono::system_clock::time_point expires_at() const;  // of the server's certificate

  // Called by Reload on its thread, with what is new.
  void OnChange(std::function<void(const Certificates&)> listener);

 private:
  explicit CertificateStore(CertificatePaths paths) : paths_(std::move(paths)) {}

  const CertificatePaths paths_;
  mutable Mutex mutex_;
  Certificates current_ ABSL_GUARDED_BY(mutex_);
  std::chrono::system_clock::time_point expires_at_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::function<void(const Certificates&)>> listeners_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moed
