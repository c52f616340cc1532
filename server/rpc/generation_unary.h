// One Generate call: the whole continuation, then one answer.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string>

#include "runtime/output/generation_sink.h"
#include "server/rpc/call_counter.h"
#include "server/rpc/generation_call.h"

namespace moed {

// Owns itself: made by Start, gone after the call. Ends as GenerationStream does.
class GenerationUnary : public grpc::ServerUnaryReactor {
 public:
  // Never null. `response` is filled before the call ends.
  static grpc::ServerUnaryReactor* Start(grpc::CallbackServerContext* context,
                                         absl::StatusOr<GenerationCall> call,
                                         grpc::ByteBuffer* response, CallCounter* live_calls);

  // Called once, with what the request came to.
  void End(const absl::Status& status);

  void OnCancel() override;
  void OnDone() override;

 private:
  GenerationUnary(const GenerationCall& call, CallCounter* live_calls)
      : live_calls_(live_calls),
        engine_(call.serving.engine),
        request_id_(call.admitted.request.request_id) {
    live_calls_->Enter();
  }

  CallCounter* const live_calls_;
  std::shared_ptr<Engine> engine_;
  std::string request_id_;
  std::shared_ptr<GenerationSink> sink_;  // says which request is this call's own
};

}  // namespace moed
