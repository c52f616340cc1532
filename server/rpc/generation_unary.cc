#include "server/rpc/generation_unary.h"

#include <utility>

#include "server/handlers/generation_messages.h"
#include "server/rpc/wire.h"

namespace moed {
namespace {

// Collects on the output thread; the answer is bounded by n and max_tokens.
class CollectingSink : public GenerationSink {
 public:
  CollectingSink(const GenerationCall& call, GenerationUnary* reactor,
                 grpc::ByteBuffer* response_bytes)
      : messages_(call.admitted, *call.serving.model),
        reactor_(reactor),
        response_bytes_(response_bytes) {}

  bool OnDelta(GenerationDelta delta) override {
    AppendToResponse(messages_.Next(std::move(delta)), &response_);
    return true;
  }

  void OnFinish(const GenerationFinish& finish) override {
    if (finish.status.ok()) *response_bytes_ = SerializeMessage(response_);
    reactor_->End(finish.status);
  }

 private:
  GenerationMessages messages_;
  v1::GenerateResponse response_;
  GenerationUnary* const reactor_;          // lives until End
  grpc::ByteBuffer* const response_bytes_;  // the same
};

}  // namespace

grpc::ServerUnaryReactor* GenerationUnary::Start(grpc::CallbackServerContext* context,
                                                 absl::StatusOr<GenerationCall> call,
                                                 grpc::ByteBuffer* response,
                                                 const GenerationParts& parts) {
  if (!call.ok()) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(EndCall(context, call.status()));
    return reactor;
  }
  auto* reactor = new GenerationUnary(context, &*call, parts);
  const auto sink = std::make_shared<CallSink>(
      *call, parts.gate, std::make_shared<CollectingSink>(*call, reactor, response));
  reactor->sink_ = sink;
  // From here on the output thread may end the call; the reactor lives until this returns.
  const absl::Status status =
      CallSink::Submit(std::move(call->admitted.request), call->serving.engine.get(), sink);
  if (!status.ok()) reactor->End(status);
  return reactor;
}

GenerationUnary::GenerationUnary(grpc::CallbackServerContext* context, GenerationCall* call,
                                 const GenerationParts& parts)
    : context_(context),
      live_calls_(parts.live_calls),
      write_timeouts_(parts.write_timeouts),
      place_(std::move(call->place)),
      engine_(call->serving.engine),
      request_id_(call->admitted.request.request_id) {
  live_calls_->Enter();
  write_timeouts_->Watch(this);
}

void GenerationUnary::End(const absl::Status& status) {
  WriteBegins();
  Finish(EndCall(context_, status));
}

void GenerationUnary::OnCancel() {
  sink_->ClientGone();
  engine_->CancelOwn(request_id_, sink_.get(), absl::CancelledError("the client has cancelled"));
}

void GenerationUnary::OnWriteStuck(int /*timeouts*/) { context_->TryCancel(); }

void GenerationUnary::OnDone() {
  write_timeouts_->Forget(this);
  CallCounter* const live_calls = live_calls_;
  delete this;  // lets go of the engine before the call counts as ended
  live_calls->Leave();
}

}  // namespace moed
