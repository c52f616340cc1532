// The server with real sockets: deadlines, floods, descriptors that run out, shutdown.
#include "server/http/http_server.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/server/http/raw_client.h"

namespace moed {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

HttpResponse Echo(const HttpRequest& request) {
  HttpResponse response;
  response.body = request.method + " " + request.path + " " + request.body;
  return response;
}

HttpServerOptions Options() {
  HttpServerOptions options;
  options.listen = {"127.0.0.1:0"};
  options.num_threads = 2;
  return options;
}

std::unique_ptr<HttpServer> StartServer(const HttpServerOptions& options,
                                        HttpHandler handler = Echo) {
  auto server = HttpServer::Start(options, std::move(handler));
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

// Whether a new connection is served within a second.
bool Serves(int port) {
  RawClient client(port);
  client.Send(GetRequest("/alive"));
  const auto response = client.Receive(true, milliseconds(1'000));
  return response.has_value() && response->status == 200;
}

double CpuSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) { return time.tv_sec + time.tv_usec * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

TEST(HttpServerTest, AnswersOneRequestAfterAnotherOnAConnection) {
  const auto server = StartServer(Options());
  RawClient client(server->ports()[0]);
  for (int i = 0; i < 3; ++i) {
    client.Send(GetRequest(absl::StrCat("/", i)));
    const auto response = client.Receive();
    ASSERT_TRUE(response.has_value());
    EXPECT_EQ(response->body, absl::StrCat("GET /", i, " "));
  }
}

TEST(HttpServerTest, AnswersPipelinedRequestsInOrderThoughSendingHasEnded) {
  const auto server = StartServer(Options());
  RawClient client(server->ports()[0]);
  client.Send(GetRequest("/1") + GetRequest("/2", "HEAD") + GetRequest("/3"));
  client.EndSending();
  EXPECT_EQ(client.Receive()->body, "GET /1 ");
  EXPECT_THAT(client.Receive(/*has_body=*/false)->header, HasSubstr("Content-Length: 8\r\n"));
  EXPECT_EQ(client.Receive()->body, "GET /3 ");
  EXPECT_TRUE(client.IsClosed());
}

TEST(HttpServerTest, ListensOnEveryAddressThatItIsGiven) {
  HttpServerOptions options = Options();
  options.listen = {"127.0.0.1:0", "localhost:0"};
  const auto server = StartServer(options);
  ASSERT_EQ(server->ports().size(), 2U);
  EXPECT_TRUE(Serves(server->ports()[0]));
  EXPECT_TRUE(Serves(server->ports()[1]));
}

TEST(HttpServerTest, AnAddressThatIsTakenIsNamed) {
  const auto server = StartServer(Options());
  HttpServerOptions options = Options();
  options.listen = {absl::StrCat("127.0.0.1:", server->ports()[0])};
  const auto second = HttpServer::Start(options, Echo);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(options.listen[0]));
}

TEST(HttpServerTest, WhatIsNoAddressIsRefused) {
  for (const char* address :
       {"", "localhost", ":80", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80", "127.0.0.1:http"}) {
    HttpServerOptions options = Options();
    options.listen = {address};
    EXPECT_EQ(HttpServer::Start(options, Echo).status().code(), absl::StatusCode::kInvalidArgument)
        << address;
  }
}

TEST(HttpServerTest, ARequestThatDripsInIsEndedAndOthersAreServed) {
  HttpServerOptions options = Options();
  options.header_timeout = milliseconds(300);
  const auto server = StartServer(options);
  const auto began_at = steady_clock::now();  // before the server can have accepted
  RawClient slow(server->ports()[0]);
  slow.Send("GET / HTTP/1.1\r\nHost: x\r\n");
  std::optional<RawResponse> response;
  // A byte well before any timeout between two bytes: what counts is the whole request.
  while (!response.has_value() && steady_clock::now() - began_at < RawClient::kPatience) {
    slow.Send("a");
    response = slow.Receive(true, milliseconds(50));
    EXPECT_TRUE(Serves(server->ports()[0]));
  }
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->status, 408);
  EXPECT_GE(steady_clock::now() - began_at, milliseconds(300));
  EXPECT_TRUE(slow.IsClosed());
}

TEST(HttpServerTest, ABodyWithoutItsEndIsEnded) {
  HttpServerOptions options = Options();
  options.header_timeout = milliseconds(200);
  const auto server = StartServer(options);
  for (const char* body :
       {"Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"}) {
    RawClient client(server->ports()[0]);
    client.Send(absl::StrCat("POST / HTTP/1.1\r\nHost: x\r\n", body));
    const auto response = client.Receive();
    ASSERT_TRUE(response.has_value());
    EXPECT_EQ(response->status, 408);
    EXPECT_TRUE(client.IsClosed());
  }
}

TEST(HttpServerTest, AConnectionThatSaysNothingIsClosed) {
  HttpServerOptions options = Options();
  options.header_timeout = milliseconds(100);
  options.idle_timeout = milliseconds(100);
  const auto server = StartServer(options);
  RawClient silent(server->ports()[0]);
  EXPECT_TRUE(silent.IsClosed());
  RawClient idle(server->ports()[0]);
  idle.Send(GetRequest("/"));
  EXPECT_EQ(idle.Receive()->status, 200);
  EXPECT_TRUE(idle.IsClosed());
}

TEST(HttpServerTest, AClientThatDoesNotReadIsClosed) {
  HttpServerOptions options = Options();
  options.write_timeout = milliseconds(300);
  const auto server = StartServer(options, [](const HttpRequest& request) {
    HttpResponse response;
    response.body = request.path == "/alive" ? "" : std::string(64 << 20, 'x');
    return response;
  });
  RawClient client(server->ports()[0]);
  client.Send(GetRequest("/long"));
  EXPECT_TRUE(Serves(server->ports()[0]));
  // The answer never fits the sockets' buffers: the connection ends in the middle of it.
  const auto began_at = steady_clock::now();
  while (client.Send("x", milliseconds(0)) &&
         steady_clock::now() - began_at < RawClient::kPatience) {
    std::this_thread::yield();
  }
  EXPECT_LT(steady_clock::now() - began_at, std::chrono::seconds(30));
}

TEST(HttpServerTest, AHeaderOfAMegabyteIsRefusedAndTheAnswerArrives) {
  const auto server = StartServer(Options());
  RawClient client(server->ports()[0]);
  client.Send("GET / HTTP/1.1\r\nHost: x\r\nA: " + std::string(1 << 20, 'a') + "\r\n\r\n");
  const auto response = client.Receive();
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->status, 431);
  client.EndSending();
  EXPECT_TRUE(client.IsClosed());
  EXPECT_TRUE(Serves(server->ports()[0]));
}

TEST(HttpServerTest, AFloodOfOneByteChunksIsRefused) {
  const auto server = StartServer(Options());
  RawClient client(server->ports()[0]);
  std::string flood = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 100'000; ++i) flood += "1\r\nx\r\n";
  client.Send(flood);
  const auto response = client.Receive();
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->status, 413);
}

TEST(HttpServerTest, IdleConnectionsGiveWayToNewOnes) {
  HttpServerOptions options = Options();
  options.max_connections = 3;
  const auto server = StartServer(options);
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 10; ++i) {
    clients.push_back(std::make_unique<RawClient>(server->ports()[0]));
    clients.back()->Send(GetRequest("/"));
    const auto response = clients.back()->Receive(true, milliseconds(10'000));
    ASSERT_TRUE(response.has_value()) << "connection " << i;
    EXPECT_EQ(response->status, 200);
  }
  EXPECT_TRUE(clients.front()->IsClosed());
}

TEST(HttpServerTest, ConnectionsAboveTheMostWaitForAPlace) {
  HttpServerOptions options = Options();
  options.max_connections = 2;
  const auto server = StartServer(options);
  RawClient first(server->ports()[0]);
  RawClient second(server->ports()[0]);
  first.Send("GET /1 HT");
  second.Send("GET /2 HT");
  RawClient third(server->ports()[0]);
  third.Send(GetRequest("/3"));
  EXPECT_FALSE(third.Receive(true, milliseconds(200)).has_value());
  first.Send("TP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(first.Receive()->body, "GET /1 ");
  first.EndSending();
  EXPECT_EQ(third.Receive()->body, "GET /3 ");
}

TEST(HttpServerTest, AcceptsAgainSoonAfterDescriptorsRanOut) {
  const auto server = StartServer(Options());
  // Kept open: the descriptor of a connection that ends here would be free for the next.
  RawClient first(server->ports()[0]);
  first.Send(GetRequest("/first"));
  ASSERT_TRUE(first.Receive().has_value());
  RawClient waiting;
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  const rlimit before = limit;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_cur, 256);
  setrlimit(RLIMIT_NOFILE, &limit);
  std::vector<int> taken;
  for (int fd = open("/dev/null", O_RDONLY); fd >= 0; fd = open("/dev/null", O_RDONLY)) {
    taken.push_back(fd);
  }
  ASSERT_TRUE(waiting.Connect(server->ports()[0]));
  waiting.Send(GetRequest("/waiting"));
  const double cpu_before = CpuSeconds();
  EXPECT_FALSE(waiting.Receive(true, milliseconds(500)).has_value());
  EXPECT_LT(CpuSeconds() - cpu_before, 0.04) << "it must wait, not try all the time";
  for (const int fd : taken) close(fd);
  const auto response = waiting.Receive(true, milliseconds(1'000));
  setrlimit(RLIMIT_NOFILE, &before);
  ASSERT_TRUE(response.has_value()) << "not served within a second of the release";
  EXPECT_EQ(response->body, "GET /waiting ");
}

TEST(HttpServerTest, ShutsDownWhateverConnectionsAreDoing) {
  for (int round = 0; round < 20; ++round) {
    auto server = StartServer(Options(), [](const HttpRequest&) {
      HttpResponse response;
      response.body = std::string(8 << 20, 'x');
      return response;
    });
    RawClient silent(server->ports()[0]);
    RawClient begun(server->ports()[0]);
    begun.Send("GET / HT");
    RawClient unread(server->ports()[0]);
    unread.Send(GetRequest("/"));
    RawClient idle(server->ports()[0]);
    idle.Send(GetRequest("/", "HEAD"));
    if (round % 2 == 0) idle.Receive(/*has_body=*/false);
    server->Shutdown();
    EXPECT_TRUE(silent.IsClosed());
    EXPECT_FALSE(RawClient().Connect(server->ports()[0]));
    server->Shutdown();
  }
}

TEST(HttpServerTest, ManyClientsAtOnceGetTheirOwnAnswers) {
  const auto server = StartServer(Options());
  std::atomic<int> num_right = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      RawClient client(server->ports()[0]);
      for (int j = 0; j < 50; ++j) {
        client.Send(GetRequest(absl::StrCat("/", i, "/", j)));
        const auto response = client.Receive();
        if (response.has_value() && response->body == absl::StrCat("GET /", i, "/", j, " ")) {
          ++num_right;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_right, 400);
}

}  // namespace
}  // namespace moed
