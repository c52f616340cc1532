#include "server/rpc/call_sink.h"

#include <chrono>
#include <utility>

#include "server/errors/error_details.h"

namespace moed {
namespace {

// How soon a client may try the queue again.
constexpr std::chrono::milliseconds kComeBackAfter{1000};
// The transport ends a call whose deadline has passed by a clock that counts whole milliseconds.
constexpr std::chrono::milliseconds kTransportClockStep{2};

absl::Status StuckError() {
  return WithReason(
      absl::ResourceExhaustedError("SLOW_READER: the client has not read its stream for too long"),
      kReasonSlowReader);
}

}  // namespace

CallSink::CallSink(const GenerationCall& call, const CallGate& gate,
                   std::shared_ptr<GenerationSink> inner)
    : gate_(gate),
      received_at_(call.received_at),
      deadline_(call.admitted.request.deadline),
      record_(call.record),
      observed_(std::move(inner), gate.observer, call.record, call.received_at) {}

absl::Status CallSink::Submit(GenerationRequest request, Engine* engine,
                              const std::shared_ptr<CallSink>& sink) {
  absl::Status status = engine->Submit(std::move(request), sink);
  if (!status.ok()) return sink->Refused(std::move(status));
  sink->observed_.Admitted();
  return status;
}

absl::Status CallSink::Refused(absl::Status status) {
  if (absl::IsResourceExhausted(status)) {
    status = WithRetryAfter(WithReason(std::move(status), kReasonQueueFull), kComeBackAfter);
  }
  status = gate_.Explain(std::move(status));
  record_.status = status;
  record_.reason = ReasonOf(status);
  record_.total_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - received_at_).count();
  gate_.observer->OnEnd(record_);
  return status;
}

void CallSink::ClientGone() {
  client_gone_ = true;
  observed_.ClientGone();
}

bool CallSink::OnDelta(GenerationDelta delta) {
  if (observed_.OnDelta(std::move(delta))) return true;
  reader_stopped_ = true;
  return false;
}

void CallSink::OnFinish(const GenerationFinish& finish) {
  observed_.OnFinish({.status = EndStatus(finish.status)});
}

absl::Status CallSink::WireStatus(const absl::Status& status) const {
  return status.ok() && reader_stuck_ ? StuckError() : status;
}

absl::Status CallSink::EndStatus(const absl::Status& status) const {
  if (status.ok()) return status;
  // Before all else: the engine may have found a sink that takes no more before it learnt why.
  if (reader_stuck_) return StuckError();
  if (client_gone_) {
    const bool is_late = deadline_.has_value() &&
                         std::chrono::steady_clock::now() + kTransportClockStep >= *deadline_;
    if (is_late) return absl::DeadlineExceededError("the call's deadline has passed");
    return absl::CancelledError("the client has cancelled");
  }
  if (reader_stopped_) {
    return WithReason(absl::ResourceExhaustedError("SLOW_READER: the client reads its stream more "
                                                   "slowly than text is generated"),
                      kReasonSlowReader);
  }
  return gate_.Explain(status);
}

}  // namespace moed
