#include "server/rpc/server_credentials.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <cstdint>
#include <string>
#include <utility>

#include "kernels/core/check.h"

namespace moed {
namespace {

// What the handshakes of one listener began with last.
struct ListenerCertificates {
  std::shared_ptr<const CertificateStore> store;
  uint64_t version = 0;  // 0: nothing yet
};

// gRPC asks before every handshake of the listener.
grpc_ssl_certificate_config_reload_status Fetch(void* state,
                                                grpc_ssl_server_certificate_config** config) {
  auto* listener = static_cast<ListenerCertificates*>(state);
  // Asked for first: a change in between is then fetched once more, never missed.
  const uint64_t version = listener->store->version();
  if (version == listener->version) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  const Certificates certificates = listener->store->current();
  const grpc_ssl_pem_key_cert_pair pair = {certificates.key_pem.c_str(),
                                           certificates.certificate_pem.c_str()};
  // gRPC 1.51 aborts without roots, also where no client is asked for a certificate and they are
  // never looked at: the server's own stand there then.
  const std::string& roots = certificates.client_ca_pem.empty() ? certificates.certificate_pem
                                                                : certificates.client_ca_pem;
  *config = grpc_ssl_server_certificate_config_create(roots.c_str(), &pair, 1);
  listener->version = version;
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

void DeleteListener(void* state) { delete static_cast<ListenerCertificates*>(state); }

grpc_server_credentials* NewListenerCredentials(std::shared_ptr<const CertificateStore> store) {
  const grpc_ssl_client_certificate_request_type request =
      store->wants_client_certificates()
          ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
          : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
  auto* listener = new ListenerCertificates{std::move(store)};
  grpc_server_credentials* credentials = grpc_ssl_server_credentials_create_with_options(
      grpc_ssl_server_credentials_create_options_using_config_fetcher(request, Fetch, listener));
  MOED_CHECK(credentials != nullptr, "gRPC makes credentials");
  // The library frees a fetcher's state in no way of its own, but that of a processor of call
  // metadata, which here processes nothing.
  grpc_server_credentials_set_auth_metadata_processor(credentials,
                                                      {nullptr, DeleteListener, listener});
  return credentials;
}

class ReloadingCredentials final : public grpc::ServerCredentials {
 public:
  explicit ReloadingCredentials(std::shared_ptr<const CertificateStore> store)
      : store_(std::move(store)) {}

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {
    MOED_CHECK(false, "calls are admitted by CallGate");
  }

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    grpc_server_credentials* credentials = NewListenerCredentials(store_);
    const int port = grpc_server_add_http2_port(server, address.c_str(), credentials);
    grpc_server_credentials_release(credentials);
    return port;
  }

  const std::shared_ptr<const CertificateStore> store_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(
    std::shared_ptr<const CertificateStore> store) {
  return std::make_shared<ReloadingCredentials>(std::move(store));
}

}  // namespace moed
