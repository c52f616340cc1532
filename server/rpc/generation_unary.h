// One Generate call: the whole continuation, then one answer.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string>

#include "server/rpc/call_sink.h"
#include "server/rpc/generation_call.h"
#include "server/rpc/write_timeouts.h"

namespace moed {

// Owns itself: made by Start, gone after the call. Ends as GenerationStream does; a client that
// does not read its answer is reset after one timeout.
class GenerationUnary : public grpc::ServerUnaryReactor, private TimedCall {
 public:
  // Never null. `response` is filled before the call ends.
  static grpc::ServerUnaryReactor* Start(grpc::CallbackServerContext* context,
                                         absl::StatusOr<GenerationCall> call,
                                         grpc::ByteBuffer* response, const GenerationParts& parts);

  // Called once, with what the request came to.
  void End(const absl::Status& status);

  void OnCancel() override;
  void OnDone() override;

 private:
  GenerationUnary(grpc::CallbackServerContext* context, GenerationCall* call,
                  const GenerationParts& parts);

  void OnWriteStuck(int timeouts) override;

  grpc::CallbackServerContext* const context_;
  CallCounter* const live_calls_;
  WriteTimeouts* const write_timeouts_;
  ClientLimiter::Place place_;
  std::shared_ptr<Engine> engine_;
  std::string request_id_;
  std::shared_ptr<CallSink> sink_;  // which request is this call's own
};

}  // namespace moed
