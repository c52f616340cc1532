// The gRPC server of a daemon, over a real connection, with an engine whose output the test writes.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "kernels/core/check.h"
#include "moed/v1/generation.grpc.pb.h"
#include "server/admission/client_limiter.h"
#include "server/rpc/grpc_server.h"
#include "server/security/authenticator.h"
#include "tests/server/support/fake_admin_control.h"
#include "tests/server/support/fake_engine.h"
#include "tests/server/support/recording_observer.h"
#include "tests/server/support/served_models.h"

namespace moed {

// What differs from one test to the next.
struct GrpcTestOptions {
  GrpcServerOptions server;
  RequestLimits limits;
  std::shared_ptr<const KeyRing> keys;
};

// Serves from its beginning to its end.
class GrpcTestServer {
 public:
  explicit GrpcTestServer(GrpcTestOptions options = {})
      : validator_(options.limits, [] { return 7; }),
        authenticator_(options.keys),
        limiter_(options.limits.requests_per_client) {
    options.server.listen = {"127.0.0.1:0"};
    auto server = GrpcServer::Start(options.server, Parts());
    MOED_CHECK(server.ok(), "a port is free");
    server_ = *std::move(server);
    channel_ = NewChannel();
    stub_ = v1::GenerationService::NewStub(channel_);
    state_.SetServing({MakeServedModel(), engine_});
    lifecycle_.Enter(LifecyclePhase::kReady);
  }
  ~GrpcTestServer() {
    engine_->Shutdown(absl::UnavailableError("test over"));
    server_->Shutdown(absl::ZeroDuration());
  }

  GrpcServerParts Parts() {
    return {.state = &state_,
            .lifecycle = &lifecycle_,
            .validator = &validator_,
            .authenticator = &authenticator_,
            .observer = &observer_,
            .limiter = &limiter_,
            .admin = &admin_,
            .certificates = nullptr,
            .on_connection_waits = [this] { ++num_connection_waits_; }};
  }

  // One with a connection of its own.
  std::shared_ptr<grpc::Channel> NewChannel() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    return grpc::CreateCustomChannel(address(), grpc::InsecureChannelCredentials(), arguments);
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(port()); }
  int port() const { return server_->ports()[0]; }

  // Sends `bytes` to a unary method, or to one that streams and ends with an error, and gives its
  // status.
  grpc::Status CallRaw(const std::string& method, const std::string& bytes,
                       grpc::ClientContext* context = nullptr) {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext own;
    if (context == nullptr) context = &own;
    grpc::CompletionQueue queue;
    const grpc::Slice slice(bytes);
    auto call = stub.PrepareUnaryCall(context, method, grpc::ByteBuffer(&slice, 1), &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return status;
  }

  v1::GenerationService::Stub& generation() { return *stub_; }
  FakeEngine& engine() { return *engine_; }
  RecordingObserver& observer() { return observer_; }
  ServingState& state() { return state_; }
  Lifecycle& lifecycle() { return lifecycle_; }
  FakeAdminControl& admin() { return admin_; }
  ClientLimiter& limiter() { return limiter_; }
  GrpcServer& server() { return *server_; }
  int num_connection_waits() const { return num_connection_waits_; }
  const std::shared_ptr<grpc::Channel>& channel() { return channel_; }

 private:
  std::atomic<int> num_connection_waits_{0};
  ServingState state_;
  Lifecycle lifecycle_;
  RequestValidator validator_;
  Authenticator authenticator_;
  RecordingObserver observer_;
  ClientLimiter limiter_;
  FakeAdminControl admin_;
  std::shared_ptr<FakeEngine> engine_ = std::make_shared<FakeEngine>();
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
};

// A request with an id and a prompt that the test model takes.
inline v1::StreamGenerateRequest StreamRequest(const std::string& id) {
  v1::StreamGenerateRequest request;
  request.set_request_id(id);
  request.set_text("ab");
  return request;
}

inline v1::GenerateRequest UnaryRequest(const std::string& id) {
  v1::GenerateRequest request;
  request.set_request_id(id);
  request.set_text("ab");
  return request;
}

}  // namespace moed
