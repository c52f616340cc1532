// The server over TLS.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "server/http/http_server.h"
#include "tests/server/http/raw_client.h"
#include "tests/server/security/test_certificates.h"

namespace moed {
namespace {

using ::testing::StartsWith;

// A connection that trusts `authority` alone. Blocks; the server has timeouts.
class TlsClient {
 public:
  TlsClient(int port, const TestAuthority& authority, int max_version = TLS1_3_VERSION)
      : client_(port), context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free) {
    std::unique_ptr<BIO, decltype(&BIO_free)> pem(
        BIO_new_mem_buf(authority.certificate_pem().data(), -1), BIO_free);
    std::unique_ptr<X509, decltype(&X509_free)> certificate(
        PEM_read_bio_X509(pem.get(), nullptr, nullptr, nullptr), X509_free);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context_.get()), certificate.get());
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_security_level(context_.get(), 0);
    SSL_CTX_set_max_proto_version(context_.get(), max_version);
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_fd(ssl_.get(), client_.fd());
    connected_ = SSL_connect(ssl_.get()) == 1;
    ERR_clear_error();
  }

  bool connected() const { return connected_; }
  // What comes back first; empty: nothing.
  std::string Ask(const std::string& request) {
    if (SSL_write(ssl_.get(), request.data(), static_cast<int>(request.size())) <= 0) return "";
    std::string answer(4096, '\0');
    const int num_bytes = SSL_read(ssl_.get(), answer.data(), static_cast<int>(answer.size()));
    answer.resize(num_bytes > 0 ? static_cast<size_t>(num_bytes) : 0);
    return answer;
  }

 private:
  RawClient client_;
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl_{nullptr, SSL_free};
  bool connected_ = false;
};

class HttpsTest : public ::testing::Test {
 protected:
  HttpsTest() {
    WriteCertificate(authority_);
    auto store = CertificateStore::Load(
        {.certificate = directory_.Path("cert"), .key = directory_.Path("key"), .client_ca = ""});
    EXPECT_TRUE(store.ok()) << store.status();
    store_ = *store;
  }

  void WriteCertificate(const TestAuthority& authority) {
    const TestCertificate certificate = authority.Issue("localhost");
    directory_.Write("cert", certificate.certificate_pem);
    directory_.Write("key", certificate.key_pem);
  }

  int Start(std::chrono::milliseconds timeout = std::chrono::milliseconds(5'000)) {
    HttpServerOptions options;
    options.listen = {"127.0.0.1:0"};
    options.certificates = store_;
    options.header_timeout = timeout;
    auto server = HttpServer::Start(options, [](const HttpRequest&) { return HttpResponse(); });
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    return server_->ports()[0];
  }

  TestDirectory directory_;
  const TestAuthority authority_{"first"};
  std::shared_ptr<CertificateStore> store_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpsTest, AnswersOneRequestAfterAnotherOnAConnection) {
  TlsClient client(Start(), authority_);
  ASSERT_TRUE(client.connected());
  EXPECT_THAT(client.Ask(GetRequest("/1")), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(client.Ask(GetRequest("/2")), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(client.Ask("nonsense\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
}

TEST_F(HttpsTest, ANewCertificateIsForNewConnections) {
  const int port = Start();
  TlsClient old(port, authority_);
  const TestAuthority next("second");
  EXPECT_FALSE(TlsClient(port, next).connected());
  WriteCertificate(next);
  ASSERT_TRUE(store_->Reload().ok());
  EXPECT_TRUE(TlsClient(port, next).connected());
  EXPECT_FALSE(TlsClient(port, authority_).connected());
  EXPECT_THAT(old.Ask(GetRequest("/")), StartsWith("HTTP/1.1 200 "));
}

TEST_F(HttpsTest, AStoreThatOutlivesTheServerDoesItNoHarm) {
  Start();
  server_.reset();
  WriteCertificate(TestAuthority("second"));
  EXPECT_TRUE(store_->Reload().ok());
}

TEST_F(HttpsTest, OldVersionsOfTlsAreRefused) {
  const int port = Start();
  EXPECT_FALSE(TlsClient(port, authority_, TLS1_1_VERSION).connected());
  EXPECT_TRUE(TlsClient(port, authority_, TLS1_2_VERSION).connected());
}

TEST_F(HttpsTest, PlainHttpIsNotAnswered) {
  RawClient client(Start());
  client.Send(GetRequest("/"));
  EXPECT_FALSE(client.Receive().has_value());
}

TEST_F(HttpsTest, AHandshakeThatDoesNotComeIsEnded) {
  RawClient client(Start(std::chrono::milliseconds(100)));
  EXPECT_TRUE(client.IsClosed());
}

}  // namespace
}  // namespace moed
