#include "server/rpc/generation_stream.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/wire.h"

namespace moed {
namespace {

// A call that was refused: it ends with a status and without a message.
class RefusedStream : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit RefusedStream(const absl::Status& status) { Finish(ToGrpcStatus(status)); }
  void OnDone() override { delete this; }
};

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerationStream::Start(
    grpc::CallbackServerContext* context, absl::StatusOr<GenerationCall> call,
    size_t stream_buffer_bytes, CallCounter* live_calls) {
  if (!call.ok()) return new RefusedStream(call.status());
  auto* stream = new GenerationStream(*call, stream_buffer_bytes, live_calls);
  // From here on the output thread may be in Pump; what it starts waits until this returns.
  std::shared_ptr<Outbox> outbox = stream->outbox_;
  const absl::Status status = SubmitCall(context, *std::move(call), outbox);
  if (!status.ok()) stream->Finish(ToGrpcStatus(status));
  return stream;
}

GenerationStream::GenerationStream(const GenerationCall& call, size_t stream_buffer_bytes,
                                   CallCounter* live_calls)
    : live_calls_(live_calls),
      engine_(call.serving.engine),
      messages_(call.admitted, *call.serving.model),
      outbox_(std::make_shared<Outbox>(stream_buffer_bytes, [this] { Pump(); })) {
  live_calls_->Enter();
}

void GenerationStream::Pump() {
  std::optional<OutboxMessage> waiting = outbox_->Pop();
  if (!waiting.has_value()) return;
  if (!waiting->delta.has_value()) {
    Finish(ToGrpcStatus(FinalStatus(*waiting->end)));
    return;
  }
  write_buffer_ = SerializeMessage(messages_.Next(*std::move(waiting->delta)));
  if (waiting->end.has_value()) {
    StartWriteAndFinish(&write_buffer_, grpc::WriteOptions(), grpc::Status::OK);
  } else {
    StartWrite(&write_buffer_);
  }
}

absl::Status GenerationStream::FinalStatus(const GenerationFinish& finish) const {
  if (!outbox_->overflowed()) return finish.status;
  return absl::ResourceExhaustedError(
      "SLOW_READER: the client reads its stream more slowly than text is generated");
}

void GenerationStream::OnWriteDone(bool ok) {
  if (!ok) Abandon("the stream is closed");
  Pump();
}

void GenerationStream::OnCancel() { Abandon("the client has cancelled"); }

void GenerationStream::Abandon(absl::string_view reason) {
  outbox_->Close();
  engine_->CancelOwn(messages_.request_id(), outbox_.get(), absl::CancelledError(reason));
}

void GenerationStream::OnDone() {
  CallCounter* const live_calls = live_calls_;
  delete this;  // lets go of the engine before the call counts as ended
  live_calls->Leave();
}

}  // namespace moed
