#include "server/observe/observed_sink.h"

#include <algorithm>
#include <utility>

#include "server/errors/error_details.h"

namespace moed {
namespace {

const char* FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kTimeLimit:
      return "time_limit";
  }
  return "";
}

double SecondsBetween(TimePoint from, TimePoint to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

ObservedSink::ObservedSink(std::shared_ptr<GenerationSink> inner, RequestObserver* observer,
                           RequestRecord record, TimePoint received_at,
                           std::function<TimePoint()> now)
    : inner_(std::move(inner)),
      observer_(observer),
      now_(std::move(now)),
      received_at_(received_at),
      submitted_at_(now_()),
      record_(std::move(record)) {}

void ObservedSink::Admitted() {
  if (!admitted_.exchange(true)) observer_->OnAdmitted();
}

void ObservedSink::ClientGone() { client_gone_ = true; }

bool ObservedSink::OnDelta(GenerationDelta delta) {
  Admitted();
  Observe(delta);
  if (inner_->OnDelta(std::move(delta))) return true;
  reader_stopped_ = true;
  return false;
}

void ObservedSink::Observe(const GenerationDelta& delta) {
  if (delta.prompt.has_value()) {
    record_.prompt_tokens = delta.prompt->prompt_tokens;
    record_.cached_tokens = delta.prompt->cached_tokens;
  }
  const auto index = static_cast<size_t>(delta.choice);
  if (choices_.size() <= index) choices_.resize(index + 1);
  Choice& choice = choices_[index];
  const int32_t tokens = GeneratedTokens(delta, choice);
  choice.has_begun = true;
  if (tokens > 0) {
    const TimePoint now = now_();
    if (!std::exchange(has_token_, true)) {
      record_.first_token_seconds = SecondsBetween(submitted_at_, now);
      observer_->OnFirstToken(now - submitted_at_);
    }
    if (choice.tokens > 0) {
      observer_->OnInterToken(std::chrono::duration<double>(now - choice.last_token_at) / tokens,
                              tokens);
    }
    choice.last_token_at = now;
    choice.tokens += tokens;
    record_.completion_tokens += tokens;
    observer_->OnTokens(tokens);
  }
  if (delta.finish.has_value()) {
    record_.finish_reason = FinishReasonName(delta.finish->reason);
    record_.queue_seconds = delta.finish->queue_seconds;
    record_.preemptions += delta.finish->usage.num_preemptions;
  }
}

int32_t ObservedSink::GeneratedTokens(const GenerationDelta& delta, const Choice& choice) const {
  const auto num_ids = static_cast<int32_t>(delta.token_ids.size());
  if (delta.finish.has_value()) {
    return std::clamp(delta.finish->completion_tokens - choice.tokens, 0, num_ids);
  }
  // A choice begins with one token: more of them are an echo.
  const bool echoes = !choice.has_begun && num_ids > 1;
  return echoes ? std::max(num_ids - record_.prompt_tokens, 1) : num_ids;
}

void ObservedSink::OnFinish(const GenerationFinish& finish) {
  Admitted();
  Conclude(finish.status);
  observer_->OnEnd(record_);
  inner_->OnFinish(finish);
}

void ObservedSink::Conclude(absl::Status status) {
  record_.admitted = true;
  record_.num_choices = std::max(record_.num_choices, static_cast<int32_t>(choices_.size()));
  record_.total_seconds = SecondsBetween(received_at_, now_());
  if (reader_stopped_ && client_gone_) {
    // Also the transport ends a call whose deadline has passed as if the client had gone.
    if (!absl::IsDeadlineExceeded(status)) status = absl::CancelledError("the client has gone");
  } else if (reader_stopped_ && !absl::IsCancelled(status)) {
    record_.slow_reader = true;
    status = WithReason(absl::ResourceExhaustedError("the reader is too slow"), kReasonSlowReader);
  } else if (ReasonOf(status) == kReasonSlowReader) {
    record_.slow_reader = true;  // the front end has noticed, before another delta came
  }
  record_.client_cancelled = absl::IsCancelled(status);
  if (!status.ok()) record_.finish_reason = "";
  record_.reason = ReasonOf(status);
  record_.status = std::move(status);
}

}  // namespace moed
