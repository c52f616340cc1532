#include "server/rpc/generation_stream.h"

#include <optional>
#include <utility>

#include "server/rpc/wire.h"

namespace moed {
namespace {

// A call that was refused: it ends with a status and without a message.
class RefusedStream : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit RefusedStream(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerationStream::Start(
    grpc::CallbackServerContext* context, absl::StatusOr<GenerationCall> call,
    const GenerationParts& parts) {
  if (!call.ok()) return new RefusedStream(EndCall(context, call.status()));
  auto* stream = new GenerationStream(context, &*call, parts);
  // From here on a writer thread may be in Pump; what it starts waits until this returns.
  const absl::Status status = CallSink::Submit(std::move(call->admitted.request),
                                               call->serving.engine.get(), stream->sink_);
  if (!status.ok()) stream->End(status);
  return stream;
}

GenerationStream::GenerationStream(grpc::CallbackServerContext* context, GenerationCall* call,
                                   const GenerationParts& parts)
    : context_(context),
      live_calls_(parts.live_calls),
      write_timeouts_(parts.write_timeouts),
      place_(std::move(call->place)),
      engine_(call->serving.engine),
      messages_(call->admitted, *call->serving.model),
      outbox_(std::make_shared<Outbox>(
          parts.stream_buffer_bytes,
          [this, writers = parts.writers] { writers->Post([this] { Pump(); }); })),
      sink_(std::make_shared<CallSink>(*call, parts.gate, outbox_)) {
  live_calls_->Enter();
  write_timeouts_->Watch(this);
}

void GenerationStream::Pump() {
  std::optional<OutboxMessage> waiting = outbox_->Pop();
  if (!waiting.has_value()) return;
  if (!waiting->delta.has_value()) {
    End(sink_->WireStatus(waiting->end->status));
    return;
  }
  write_buffer_ = SerializeMessage(messages_.Next(*std::move(waiting->delta)));
  WriteBegins();
  if (waiting->end.has_value()) {
    StartWriteAndFinish(&write_buffer_, grpc::WriteOptions(), grpc::Status::OK);
  } else {
    StartWrite(&write_buffer_);
  }
}

void GenerationStream::End(const absl::Status& status) {
  WriteBegins();
  Finish(EndCall(context_, status));
}

void GenerationStream::OnWriteDone(bool ok) {
  WriteEnds();
  if (!ok) ClientGone();
  Pump();
}

void GenerationStream::OnCancel() { ClientGone(); }

void GenerationStream::ClientGone() {
  sink_->ClientGone();
  Cancel(absl::CancelledError("the client has cancelled"));
}

void GenerationStream::OnWriteStuck(int timeouts) {
  // Also after the second one: a timer that is late may not have told of the first.
  sink_->ReaderStuck();
  Cancel(absl::ResourceExhaustedError("the client does not read"));
  if (timeouts > 1) context_->TryCancel();
}

void GenerationStream::Cancel(const absl::Status& reason) {
  outbox_->Close();
  engine_->CancelOwn(messages_.request_id(), sink_.get(), reason);
}

void GenerationStream::OnDone() {
  write_timeouts_->Forget(this);
  CallCounter* const live_calls = live_calls_;
  delete this;  // lets go of the engine before the call counts as ended
  live_calls->Leave();
}

}  // namespace moed
