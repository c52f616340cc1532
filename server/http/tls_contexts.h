// The TLS context that new connections are given; exchanged when the certificate is.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "kernels/core/mutex.h"
#include "server/security/certificate_store.h"

namespace moed {

// Thread-safe. TLS 1.2 and newer; clients are not asked for certificates.
class TlsContexts {
 public:
  // INVALID_ARGUMENT where the certificates cannot be used. Follows `certificates` for as long as
  // the result lives; one that cannot be used then leaves the one before in its place.
  static absl::StatusOr<std::shared_ptr<TlsContexts>> Follow(CertificateStore* certificates);

  std::shared_ptr<boost::asio::ssl::context> current() const;

 private:
  absl::Status Use(const Certificates& certificates);

  mutable Mutex mutex_;
  std::shared_ptr<boost::asio::ssl::context> current_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moed
