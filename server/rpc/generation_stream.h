// One StreamGenerate call: from the engine's outbox to the wire.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <memory>

#include "runtime/output/outbox.h"
#include "server/handlers/generation_messages.h"
#include "server/rpc/call_sink.h"
#include "server/rpc/generation_call.h"
#include "server/rpc/write_timeouts.h"

namespace moed {

// Owns itself: made by Start, gone after the call. The engine always ends a request it accepted, so
// the call ends through the outbox's finish and in no other way; a client that has gone, or that
// does not read, only makes it come sooner.
//
// At most one thread is in Pump, or one call of it posted: the outbox wakes only a writer that
// found it empty, and a writer that did not goes on in OnWriteDone.
class GenerationStream : public grpc::ServerWriteReactor<grpc::ByteBuffer>, private TimedCall {
 public:
  // Never null.
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(grpc::CallbackServerContext* context,
                                                           absl::StatusOr<GenerationCall> call,
                                                           const GenerationParts& parts);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  GenerationStream(grpc::CallbackServerContext* context, GenerationCall* call,
                   const GenerationParts& parts);

  // Writes what waits. The object may be gone when this returns.
  void Pump();
  void End(const absl::Status& status);
  void ClientGone();
  // After one timeout the request ends and its memory is free; the client is told why as soon as it
  // reads. After another one the call is reset.
  void OnWriteStuck(int timeouts) override;
  void Cancel(const absl::Status& reason);

  grpc::CallbackServerContext* const context_;
  CallCounter* const live_calls_;
  WriteTimeouts* const write_timeouts_;
  ClientLimiter::Place place_;
  std::shared_ptr<Engine> engine_;
  GenerationMessages messages_;
  std::shared_ptr<Outbox> outbox_;
  std::shared_ptr<CallSink> sink_;  // which request is this call's own
  grpc::ByteBuffer write_buffer_;
};

}  // namespace moed
