#include "server/rpc/grpc_server.h"

#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/impl/server_builder_plugin.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <thread>
#include <utility>

#include "kernels/core/status.h"
#include "server/rpc/accept_loop.h"
#include "server/rpc/admin_service.h"
#include "server/rpc/expert_service.h"
#include "server/rpc/generation_service.h"
#include "server/rpc/periodic_streams.h"
#include "server/rpc/query_services.h"
#include "server/rpc/server_credentials.h"
#include "server/rpc/wire.h"
#include "server/rpc/write_timeouts.h"

namespace moed {
namespace {

constexpr std::chrono::milliseconds kGoodbye{100};

// Settings that gRPC keeps for the whole process.
void ConfigureLibrary() {
  InstallProtobufLogHandler();
  // Its log lines have their own format; who needs them asks for them.
  if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function([](gpr_log_func_args*) {});
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
}

// The reflection library puts itself into every server of the process; this takes it out again.
class WithoutReflection : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    plugins->erase(std::remove_if(plugins->begin(), plugins->end(),
                                  [](const std::unique_ptr<grpc::ServerBuilderPlugin>& plugin) {
                                    return plugin->name() == "proto_server_reflection";
                                  }),
                   plugins->end());
  }
};

int AsInt(std::chrono::milliseconds time) {
  return static_cast<int>(std::min<int64_t>(time.count(), std::numeric_limits<int>::max()));
}

// Who sends a little too much is told so by us, with details; beyond twice the limit the transport
// stops reading.
int TransportMessageBytes(int32_t limit) {
  return static_cast<int>(std::min<int64_t>(int64_t{2} * limit, std::numeric_limits<int>::max()));
}

// One that sends nothing for so long after it has connected is closed.
constexpr int kHandshakeMs = 10'000;
// What a client may ask for in pings: one in so long, and so many sooner ones.
constexpr int kMinPingIntervalMs = 10'000;
constexpr int kMaxPingStrikes = 2;
constexpr int kKeepaliveTimeoutMs = 20'000;

void SetConnectionArguments(const GrpcServerOptions& options, grpc::ServerBuilder* builder) {
  const auto set = [&](const char* name, int value) { builder->AddChannelArgument(name, value); };
  set(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs);
  set(GRPC_ARG_MAX_METADATA_SIZE, options.max_metadata_bytes);
  set(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_streams_per_connection);
  set(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  set(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinPingIntervalMs);
  set(GRPC_ARG_HTTP2_MAX_PING_STRIKES, kMaxPingStrikes);
  if (options.keepalive.count() > 0) {
    set(GRPC_ARG_KEEPALIVE_TIME_MS, AsInt(options.keepalive));
    set(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
    // As often as that, however long there is nothing else to send.
    set(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  }
  if (options.max_connection_age.count() > 0) {
    set(GRPC_ARG_MAX_CONNECTION_AGE_MS, AsInt(options.max_connection_age));
  }
}

// gRPC 1.51 unpacks a message before it looks how long it has become, and before anybody knows who
// sends it: a megabyte would take a gigabyte.
void RefuseCompression(grpc::ServerBuilder* builder) {
  for (const grpc_compression_algorithm algorithm : {GRPC_COMPRESS_DEFLATE, GRPC_COMPRESS_GZIP}) {
    builder->SetCompressionAlgorithmSupportStatus(algorithm, false);
  }
}

std::shared_ptr<grpc::ServerCredentials> Credentials(const GrpcServerParts& parts) {
  if (parts.certificates == nullptr) return grpc::InsecureServerCredentials();
  return MakeServerCredentials(parts.certificates);
}

// More only get in each other's way: the library's own threads write too, whatever follows what is
// on its way already.
int NumWriterThreads() {
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()) / 4, 1, 4);
}

}  // namespace

// In the order in which they are needed: destruction runs backwards.
struct GrpcServer::Impl {
  Impl(const GrpcServerOptions& options, const GrpcServerParts& parts)
      : gate{.state = parts.state,
             .authenticator = parts.authenticator,
             .observer = parts.observer,
             .lifecycle = parts.lifecycle,
             .message_bytes = parts.validator->limits().message_bytes},
        write_timeouts(options.slow_reader_timeout),
        writers(NumWriterThreads()),
        generation({.gate = gate,
                    .validator = parts.validator,
                    .limiter = parts.limiter,
                    .write_timeouts = &write_timeouts,
                    .writers = &writers,
                    .live_calls = &live_calls,
                    .stream_buffer_bytes = options.stream_buffer_bytes}),
        tokenizer(gate, parts.validator->limits()),
        model(gate, parts.validator->limits()),
        experts(gate, &streams),
        admin(gate, &streams, parts.admin) {}

  // Gives the accepted connections to gRPC.
  void Accept(std::function<void()> on_waiting);

  const CallGate gate;
  CallCounter live_calls;  // accepted, and their last bytes not yet handed to the network
  WriteTimeouts write_timeouts;
  WriterThreads writers;
  PeriodicStreams streams;
  GenerationServiceImpl generation;
  TokenizerServiceImpl tokenizer;
  ModelServiceImpl model;
  ExpertServiceImpl experts;
  AdminServiceImpl admin;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor;
  std::unique_ptr<AcceptLoop> accept_loop;
  bool shut_down = false;
};

void GrpcServer::Impl::Accept(std::function<void()> on_waiting) {
  accept_loop->Run(
      {.on_connection =
           [this](int listener_fd, int fd) {
             grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
             connection.listener_fd = listener_fd;
             connection.fd = fd;
             acceptor->HandleNewConnection(&connection);
           },
       .on_waiting = std::move(on_waiting)});
}

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const GrpcServerOptions& options,
                                                              const GrpcServerParts& parts) {
  ConfigureLibrary();
  auto impl = std::make_unique<Impl>(options, parts);
  MOED_ASSIGN_OR_RETURN(
      impl->accept_loop,
      AcceptLoop::Listen({.listen = options.listen, .max_connections = options.max_connections}));
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(TransportMessageBytes(impl->gate.message_bytes));
  SetConnectionArguments(options, &builder);
  RefuseCompression(&builder);
  if (!options.reflection) builder.SetOption(std::make_unique<WithoutReflection>());
  builder.RegisterService(&impl->generation);
  builder.RegisterService(&impl->tokenizer);
  builder.RegisterService(&impl->model);
  builder.RegisterService(&impl->experts);
  builder.RegisterService(&impl->admin);
  using Type = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
  impl->acceptor =
      builder.experimental().AddExternalConnectionAcceptor(Type::FROM_FD, Credentials(parts));
  impl->server = builder.BuildAndStart();
  if (impl->server == nullptr) return absl::InternalError("the gRPC server does not start");
  std::unique_ptr<GrpcServer> server(new GrpcServer(std::move(impl)));
  // gRPC 1.51 says SERVING for "" until told otherwise.
  server->SetServing(false);
  server->impl_->Accept(parts.on_connection_waits);
  return server;
}

GrpcServer::GrpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

GrpcServer::~GrpcServer() { Shutdown(absl::ZeroDuration()); }

const std::vector<int>& GrpcServer::ports() const { return impl_->accept_loop->ports(); }

void GrpcServer::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* health = impl_->server->GetHealthCheckService();
  for (const char* service :
       {"", v1::GenerationService::service_full_name(), v1::TokenizerService::service_full_name(),
        v1::ModelService::service_full_name(), v1::ExpertService::service_full_name(),
        v1::AdminService::service_full_name()}) {
    health->SetServingStatus(service, serving);
  }
}

std::chrono::milliseconds GrpcServer::accept_silence() const {
  return impl_->accept_loop->silence();
}

void GrpcServer::Shutdown(absl::Duration grace) {
  if (std::exchange(impl_->shut_down, true)) return;
  impl_->live_calls.WaitForNone(std::chrono::steady_clock::now() +
                                absl::ToChronoMilliseconds(grace));
  // Before the server: it would not close what it is handed after its end.
  impl_->accept_loop->Stop();
  impl_->streams.Shutdown(
      impl_->gate.Explain(absl::UnavailableError("the server is shutting down")));
  // A client that has nothing to do does not answer the goodbye: it is not waited for long.
  impl_->server->Shutdown(std::chrono::system_clock::now() + kGoodbye);
  impl_->server->Wait();
}

}  // namespace moed
