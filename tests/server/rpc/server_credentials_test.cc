// TLS as clients find it: handshakes by OpenSSL, so that a refusal and the certificate shown are
// seen as they are on the wire.
#include "server/rpc/server_credentials.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/core/check.h"
#include "tests/server/security/test_certificates.h"

namespace moed {
namespace {

using std::chrono::seconds;
using ConnectionAcceptor = grpc::experimental::ExternalConnectionAcceptor;

constexpr int kPatienceSeconds = 60;

// A socket of 127.0.0.1 and a thread that hands what it accepts to a server.
class Listener {
 public:
  Listener(grpc::ServerBuilder& builder, std::shared_ptr<grpc::ServerCredentials> credentials)
      : acceptor_(builder.experimental().AddExternalConnectionAcceptor(
            grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
            std::move(credentials))) {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address_);
    MOED_CHECK(bind(fd_, reinterpret_cast<sockaddr*>(&address_), size) == 0, "a port is free");
    MOED_CHECK(listen(fd_, 128) == 0, "the socket listens");
    getsockname(fd_, reinterpret_cast<sockaddr*>(&address_), &size);
  }

  ~Listener() {
    shutdown(fd_, SHUT_RDWR);
    if (thread_.joinable()) thread_.join();
    close(fd_);
  }

  void Run() {
    thread_ = std::thread([this] {
      int fd = -1;
      while ((fd = accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        ConnectionAcceptor::NewConnectionParameters connection;
        connection.listener_fd = fd_;
        connection.fd = fd;
        acceptor_->HandleNewConnection(&connection);
      }
    });
  }

  int Connect() const {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const timeval patience = {kPatienceSeconds, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    const auto* address = reinterpret_cast<const sockaddr*>(&address_);
    MOED_CHECK(connect(fd, address, sizeof(address_)) == 0, "the listener takes connections");
    return fd;
  }

  std::string target() const { return "127.0.0.1:" + std::to_string(ntohs(address_.sin_port)); }

 private:
  std::unique_ptr<ConnectionAcceptor> acceptor_;
  int fd_ = -1;
  sockaddr_in address_ = {};
  std::thread thread_;
};

class Server {
 public:
  explicit Server(std::shared_ptr<const CertificateStore> store, int num_listeners = 1) {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    const auto credentials = MakeServerCredentials(std::move(store));
    for (int i = 0; i < num_listeners; ++i) {
      listeners_.push_back(std::make_unique<Listener>(builder, credentials));
    }
    builder.RegisterCallbackGenericService(&others_);  // gRPC starts no server without a service
    server_ = builder.BuildAndStart();
    MOED_CHECK(server_ != nullptr, "the server starts");
    for (const auto& listener : listeners_) listener->Run();
  }

  ~Server() {
    listeners_.clear();
    server_->Shutdown(std::chrono::system_clock::now());
  }

  const Listener& listener(int i = 0) const { return *listeners_[i]; }

 private:
  grpc::CallbackGenericService others_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::unique_ptr<grpc::Server> server_;
};

struct OpenSslFree {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL* connection) const { SSL_free(connection); }
};
template <typename T>
using OpenSslPtr = std::unique_ptr<T, OpenSslFree>;

OpenSslPtr<BIO> ReadFrom(const std::string& pem) {
  return OpenSslPtr<BIO>(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// A connection on which the server has spoken HTTP/2: it took what the client showed.
class TlsConnection {
 public:
  struct Options {
    std::optional<TestCertificate> certificate;
    int max_version = TLS1_3_VERSION;
  };

  static std::unique_ptr<TlsConnection> Open(const Listener& listener, const TestAuthority& trusted,
                                             Options options) {
    std::unique_ptr<TlsConnection> connection(new TlsConnection(listener.Connect()));
    return connection->Handshake(trusted, options) ? std::move(connection) : nullptr;
  }

  ~TlsConnection() { close(fd_); }

  // The name in the server's certificate.
  std::string server_name() const {
    const OpenSslPtr<X509> certificate(SSL_get1_peer_certificate(ssl_.get()));
    char name[64] = {};
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate.get()), NID_commonName, name,
                              sizeof(name));
    return name;
  }

  // A ping, and a frame that answers.
  bool IsAlive() {
    const unsigned char ping[17] = {0, 0, 8, 6};
    char answer[256];
    return SSL_write(ssl_.get(), ping, sizeof(ping)) == sizeof(ping) &&
           SSL_read(ssl_.get(), answer, sizeof(answer)) > 0;
  }

 private:
  explicit TlsConnection(int fd) : fd_(fd) {}

  bool Handshake(const TestAuthority& trusted, const Options& options) {
    context_.reset(SSL_CTX_new(TLS_client_method()));
    // So that the refusal of an old version is the server's.
    SSL_CTX_set_security_level(context_.get(), 0);
    SSL_CTX_set_max_proto_version(context_.get(), options.max_version);
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    const OpenSslPtr<X509> root(
        PEM_read_bio_X509(ReadFrom(trusted.certificate_pem()).get(), nullptr, nullptr, nullptr));
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context_.get()), root.get());
    if (options.certificate) Show(*options.certificate);
    ssl_.reset(SSL_new(context_.get()));
    const unsigned char protocols[] = {2, 'h', '2'};
    SSL_set_alpn_protos(ssl_.get(), protocols, sizeof(protocols));
    SSL_set_fd(ssl_.get(), fd_);
    if (SSL_connect(ssl_.get()) != 1) return false;
    // With TLS 1.3 the client is through before the server has seen its certificate.
    const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    char answer[256];
    return SSL_write(ssl_.get(), preface, sizeof(preface) - 1) > 0 &&
           SSL_read(ssl_.get(), answer, sizeof(answer)) > 0;
  }

  void Show(const TestCertificate& pair) {
    const OpenSslPtr<X509> certificate(
        PEM_read_bio_X509(ReadFrom(pair.certificate_pem).get(), nullptr, nullptr, nullptr));
    const OpenSslPtr<EVP_PKEY> key(
        PEM_read_bio_PrivateKey(ReadFrom(pair.key_pem).get(), nullptr, nullptr, nullptr));
    SSL_CTX_use_certificate(context_.get(), certificate.get());
    SSL_CTX_use_PrivateKey(context_.get(), key.get());
  }

  const int fd_;
  OpenSslPtr<SSL_CTX> context_;
  OpenSslPtr<SSL> ssl_;
};

class ServerCredentialsTest : public ::testing::Test {
 protected:
  ServerCredentialsTest() {
    std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes to connections that the server has closed
    Write(authority_.Issue("first"));
  }

  void Write(const TestCertificate& pair) {
    directory_.Write("cert.pem", pair.certificate_pem);
    directory_.Write("key.pem", pair.key_pem);
  }

  std::shared_ptr<CertificateStore> Load(bool with_client_ca = false) {
    directory_.Write("ca.pem", clients_.certificate_pem());
    auto store =
        CertificateStore::Load({directory_.Path("cert.pem"), directory_.Path("key.pem"),
                                with_client_ca ? directory_.Path("ca.pem") : std::string()});
    EXPECT_TRUE(store.ok()) << store.status();
    return *store;
  }

  std::unique_ptr<TlsConnection> Open(const Server& server, TlsConnection::Options options = {}) {
    return TlsConnection::Open(server.listener(), authority_, std::move(options));
  }

  // The name of the certificate that a new connection is shown, empty without a connection.
  std::string NameSeen(const Server& server, int listener = 0) {
    const auto connection = TlsConnection::Open(server.listener(listener), authority_, {});
    return connection == nullptr ? "" : connection->server_name();
  }

  TestDirectory directory_;
  TestAuthority authority_{"servers"};
  TestAuthority clients_{"clients"};
};

grpc::Status CheckHealth(const std::string& target,
                         std::shared_ptr<grpc::ChannelCredentials> credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride("localhost");
  auto channel = grpc::CreateCustomChannel(target, std::move(credentials), arguments);
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_wait_for_ready(false);
  grpc::CompletionQueue queue;
  const grpc::Slice empty;
  const grpc::ByteBuffer request(&empty, 1);
  auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  return status;
}

TEST_F(ServerCredentialsTest, ServesCallsOverTlsOnly) {
  const Server server(Load());
  grpc::SslCredentialsOptions trusting;
  trusting.pem_root_certs = authority_.certificate_pem();
  const std::string target = server.listener().target();
  const grpc::Status over_tls = CheckHealth(target, grpc::SslCredentials(trusting));
  EXPECT_TRUE(over_tls.ok()) << over_tls.error_message();
  EXPECT_EQ(CheckHealth(target, grpc::InsecureChannelCredentials()).error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ServerCredentialsTest, VersionsBefore12AreRefused) {
  const Server server(Load());
  for (const int version : {TLS1_VERSION, TLS1_1_VERSION}) {
    EXPECT_EQ(Open(server, {std::nullopt, version}), nullptr) << version;
  }
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    EXPECT_NE(Open(server, {std::nullopt, version}), nullptr) << version;
  }
}

TEST_F(ServerCredentialsTest, WithAClientCaOnlyItsCertificatesAreTaken) {
  const Server server(Load(true));
  const TestAuthority stranger("clients");  // the same name with another key
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    EXPECT_EQ(Open(server, {std::nullopt, version}), nullptr) << "none";
    EXPECT_EQ(Open(server, {stranger.Issue("client"), version}), nullptr) << "another authority's";
    EXPECT_EQ(Open(server, {clients_.Issue("client", {seconds(-7200), seconds(-60)}), version}),
              nullptr)
        << "expired";
    EXPECT_EQ(Open(server, {clients_.Issue("client", {seconds(600), seconds(7200)}), version}),
              nullptr)
        << "not valid yet";
    EXPECT_NE(Open(server, {clients_.Issue("client"), version}), nullptr);
  }
}

TEST_F(ServerCredentialsTest, ANewPairIsShownFromTheNextHandshakeOn) {
  const auto store = Load();
  const Server server(store, 2);
  const auto open = Open(server);
  ASSERT_NE(open, nullptr);
  EXPECT_EQ(open->server_name(), "first");
  Write(authority_.Issue("second"));
  ASSERT_EQ(store->Reload(), absl::StatusOr<bool>(true));
  EXPECT_EQ(NameSeen(server, 0), "second");
  EXPECT_EQ(NameSeen(server, 1), "second");
  EXPECT_TRUE(open->IsAlive());
}

TEST_F(ServerCredentialsTest, ANewClientCaTakesTheOldOnesPlace) {
  const auto store = Load(true);
  const Server server(store);
  const TestAuthority next("next");
  EXPECT_EQ(Open(server, {next.Issue("client")}), nullptr);
  directory_.Write("ca.pem", next.certificate_pem());
  ASSERT_EQ(store->Reload(), absl::StatusOr<bool>(true));
  EXPECT_NE(Open(server, {next.Issue("client")}), nullptr);
  EXPECT_EQ(Open(server, {clients_.Issue("client")}), nullptr);
}

TEST_F(ServerCredentialsTest, HalfOfANewPairLeavesTheOldOneInService) {
  const auto store = Load();
  const Server server(store);
  const TestCertificate next = authority_.Issue("second");
  directory_.Write("key.pem", next.key_pem);
  EXPECT_FALSE(store->Reload().ok());
  EXPECT_EQ(NameSeen(server), "first");
  directory_.Write("cert.pem", next.certificate_pem);
  EXPECT_TRUE(store->Reload().ok());
  EXPECT_EQ(NameSeen(server), "second");
}

TEST_F(ServerCredentialsTest, HandshakesSucceedWhilePairsAreExchanged) {
  const auto store = Load();
  const Server server(store);
  std::atomic<bool> stop{false};
  std::thread exchange([&] {
    const TestCertificate pairs[] = {authority_.Issue("even"), authority_.Issue("odd")};
    for (int i = 0; !stop; ++i) {
      Write(pairs[i % 2]);
      EXPECT_TRUE(store->Reload().ok());
    }
  });
  int num_changes = 0;
  std::string last;
  for (int i = 0; i < 100; ++i) {
    const std::string name = NameSeen(server);
    EXPECT_NE(name, "") << i;
    num_changes += name != last ? 1 : 0;
    last = name;
  }
  stop = true;
  exchange.join();
  EXPECT_GT(num_changes, 3);
}

TEST_F(ServerCredentialsTest, TheStoreLivesAsLongAsItsListeners) {
  auto store = Load();
  const std::weak_ptr<CertificateStore> watched = store;
  {
    const Server server(std::move(store));
    EXPECT_FALSE(watched.expired());
    EXPECT_EQ(NameSeen(server), "first");
  }
  // gRPC lets go of a listener on a thread of its own.
  const auto deadline = std::chrono::steady_clock::now() + seconds(kPatienceSeconds);
  while (!watched.expired() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_TRUE(watched.expired());
}

}  // namespace
}  // namespace moed
