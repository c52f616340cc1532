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
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/generation_service.h"
#include "server/rpc/query_services.h"
#include "server/rpc/wire.h"

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

}  // namespace

struct GrpcServer::Impl {
  Impl(const GrpcServerOptions& options, const ServingState* state,
       const RequestValidator* validator)
      : generation(state, validator, options.stream_buffer_bytes),
        tokenizer(state, validator->limits()),
        model(state, validator->limits()),
        experts(state) {}

  GenerationServiceImpl generation;
  TokenizerServiceImpl tokenizer;
  ModelServiceImpl model;
  ExpertServiceImpl experts;
  std::vector<int> ports;
  std::unique_ptr<grpc::Server> server;
  bool shut_down = false;
};

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const GrpcServerOptions& options,
                                                              const ServingState* state,
                                                              const RequestValidator* validator) {
  ConfigureLibrary();
  auto impl = std::make_unique<Impl>(options, state, validator);
  impl->ports.resize(options.listen.size());
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(validator->limits().message_bytes);
  // Otherwise a second daemon would share the port instead of finding it taken.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  for (size_t i = 0; i < options.listen.size(); ++i) {
    builder.AddListeningPort(options.listen[i], grpc::InsecureServerCredentials(), &impl->ports[i]);
  }
  if (!options.reflection) builder.SetOption(std::make_unique<WithoutReflection>());
  builder.RegisterService(&impl->generation);
  builder.RegisterService(&impl->tokenizer);
  builder.RegisterService(&impl->model);
  builder.RegisterService(&impl->experts);
  impl->server = builder.BuildAndStart();
  for (size_t i = 0; i < options.listen.size(); ++i) {
    if (impl->server == nullptr || impl->ports[i] == 0) {
      if (impl->ports[i] != 0) continue;
      return absl::ResourceExhaustedError(
          absl::StrCat("cannot listen on ", options.listen[i],
                       ": the port is taken or the address is not this machine's"));
    }
  }
  if (impl->server == nullptr) return absl::InternalError("the gRPC server does not start");
  std::unique_ptr<GrpcServer> server(new GrpcServer(std::move(impl)));
  // gRPC 1.51 says SERVING for "" until told otherwise.
  server->SetServing(false);
  return server;
}

GrpcServer::GrpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

GrpcServer::~GrpcServer() { Shutdown(absl::ZeroDuration()); }

const std::vector<int>& GrpcServer::ports() const { return impl_->ports; }

void GrpcServer::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* health = impl_->server->GetHealthCheckService();
  for (const char* service :
       {"", v1::GenerationService::service_full_name(), v1::TokenizerService::service_full_name(),
        v1::ModelService::service_full_name(), v1::ExpertService::service_full_name()}) {
    health->SetServingStatus(service, serving);
  }
}

void GrpcServer::Shutdown(absl::Duration grace) {
  if (std::exchange(impl_->shut_down, true)) return;
  impl_->generation.live_calls().WaitForNone(std::chrono::steady_clock::now() +
                                             absl::ToChronoMilliseconds(grace));
  // A client that has nothing to do does not answer the goodbye: it is not waited for long.
  impl_->server->Shutdown(std::chrono::system_clock::now() + kGoodbye);
  impl_->server->Wait();
}

}  // namespace moed
