// One StreamGenerate call: from the engine's outbox to the wire.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <memory>

#include "runtime/output/outbox.h"
#include "server/handlers/generation_messages.h"
#include "server/rpc/call_counter.h"
#include "server/rpc/generation_call.h"

namespace moed {

// Owns itself: made by Start, gone after the call. The engine always ends a request it accepted, so
// the call ends through the outbox's finish and in no other way; a client that has gone only makes
// it come sooner.
//
// At most one thread is in Pump: the outbox wakes only a writer that found it empty, and a writer
// that did not goes on in OnWriteDone.
class GenerationStream : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  // Never null.
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(grpc::CallbackServerContext* context,
                                                           absl::StatusOr<GenerationCall> call,
                                                           size_t stream_buffer_bytes,
                                                           CallCounter* live_calls);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  GenerationStream(const GenerationCall& call, size_t stream_buffer_bytes, CallCounter* live_calls);

  // Writes what waits. The object may be gone when this returns.
  void Pump();
  void Abandon(absl::string_view reason);
  absl::Status FinalStatus(const GenerationFinish& finish) const;

  CallCounter* const live_calls_;
  std::shared_ptr<Engine> engine_;
  GenerationMessages messages_;
  std::shared_ptr<Outbox> outbox_;
  grpc::ByteBuffer write_buffer_;
};

}  // namespace moed
