#include "server/rpc/generation_unary.h"

#include <utility>

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
                                                 CallCounter* live_calls) {
  if (!call.ok()) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpcStatus(call.status()));
    return reactor;
  }
  auto* reactor = new GenerationUnary(*call, live_calls);
  auto sink = std::make_shared<CollectingSink>(*call, reactor, response);
  reactor->sink_ = sink;
  // From here on the output thread may end the call; the reactor lives until this returns.
  const absl::Status status = SubmitCall(context, *std::move(call), std::move(sink));
  if (!status.ok()) reactor->End(status);
  return reactor;
}

void GenerationUnary::End(const absl::Status& status) { Finish(ToGrpcStatus(status)); }

void GenerationUnary::OnCancel() {
  engine_->CancelOwn(request_id_, sink_.get(), absl::CancelledError("the client has cancelled"));
}

void GenerationUnary::OnDone() {
  CallCounter* const live_calls = live_calls_;
  delete this;  // lets go of the engine before the call counts as ended
  live_calls->Leave();
}

}  // namespace moed
