#include "server/http/tls_contexts.h"

#include <openssl/ssl.h>

#include <boost/asio/buffer.hpp>
#include <utility>

#include "kernels/core/status.h"

namespace moed {

namespace ssl = boost::asio::ssl;

absl::StatusOr<std::shared_ptr<TlsContexts>> TlsContexts::Follow(CertificateStore* certificates) {
  auto contexts = std::make_shared<TlsContexts>();
  MOED_RETURN_IF_ERROR(contexts->Use(certificates->current()));
  // The store may outlive the server.
  certificates->OnChange(
      [weak = std::weak_ptr<TlsContexts>(contexts)](const Certificates& changed) {
        // The store has checked them: what OpenSSL still refuses is not worth losing the old ones
        // for.
        if (const auto held = weak.lock(); held != nullptr) held->Use(changed).IgnoreError();
      });
  return contexts;
}

std::shared_ptr<ssl::context> TlsContexts::current() const {
  MutexLock lock(mutex_);
  return current_;
}

absl::Status TlsContexts::Use(const Certificates& certificates) {
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION);
  SSL_CTX_set_options(context->native_handle(), SSL_OP_NO_RENEGOTIATION);
  boost::system::error_code error;
  context->use_certificate_chain(boost::asio::buffer(certificates.certificate_pem), error);
  if (error) return absl::InvalidArgumentError("TLS refuses the certificate");
  context->use_private_key(boost::asio::buffer(certificates.key_pem), ssl::context::pem, error);
  if (error) return absl::InvalidArgumentError("TLS refuses the certificate's key");
  MutexLock lock(mutex_);
  current_ = std::move(context);
  return absl::OkStatus();
}

}  // namespace moed
