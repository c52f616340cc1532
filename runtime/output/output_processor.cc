#include "runtime/output/output_processor.h"

#include <chrono>
#include <utility>

#include "kernels/core/check.h"

namespace moed {
namespace {

double SecondsBetween(TimePoint from, TimePoint to) {
  return std::chrono::duration<double>(to - from).count();
}

SequenceOutput::Last LastOf(const SequenceToken& token) {
  if (!token.finish) return SequenceOutput::Last::kNo;
  return token.finish->matched_token_id >= 0 ? SequenceOutput::Last::kYesStopToken
                                             : SequenceOutput::Last::kYes;
}

}  // namespace

void OutputProcessor::Open(OutputOpen open) {
  const SequenceId id = open.id;
  Stream stream;
  stream.num_live = open.output->num_choices();
  stream.choices.resize(stream.num_live);
  stream.open = std::move(open);
  const bool is_new = streams_.emplace(id, std::move(stream)).second;
  MOED_CHECK(is_new, "a stream is opened twice");
}

OutputProcessor::Streams::iterator OutputProcessor::FindLive(SequenceId id, int32_t choice) {
  const auto found = streams_.find(id);
  if (found == streams_.end()) return found;
  const Stream& stream = found->second;
  MOED_CHECK(choice >= 0 && choice < static_cast<int32_t>(stream.choices.size()),
             "a request has no such continuation");
  return stream.choices[choice].has_ended ? streams_.end() : found;
}

void OutputProcessor::Report(SequenceReport report) {
  const auto found = FindLive(report.id, report.choice);
  if (found == streams_.end()) return;
  found->second.open.output->Report(report.choice, std::move(report.report));
}

void OutputProcessor::Token(const SequenceToken& token) {
  const auto found = FindLive(token.id, token.choice);
  if (found == streams_.end()) return;
  Stream& stream = found->second;
  Choice& choice = stream.choices[token.choice];
  if (!choice.first_token_at) choice.first_token_at = token.sampled_at;
  RequestOutput& output = *stream.open.output;
  GenerationDelta delta =
      output.Append(token.choice, token.sample, LastOf(token), token.usage.cached_tokens);
  if (token.finish || output.matched_stop_string(token.choice)) {
    delta.finish = MakeFinish(stream, {token.choice, token.scheduled_at, token.sampled_at},
                              token.finish.value_or(SequenceFinish()), token.usage);
  }
  Deliver(found, std::move(delta), /*scheduler_knows=*/token.finish.has_value());
}

void OutputProcessor::Timeout(const SequenceTimeout& timeout) {
  const auto found = FindLive(timeout.id, timeout.choice);
  if (found == streams_.end()) return;
  Stream& stream = found->second;
  GenerationDelta delta = stream.open.output->Finish(timeout.choice, timeout.usage.cached_tokens);
  delta.finish = MakeFinish(stream, {timeout.choice, timeout.scheduled_at, timeout.ended_at},
                            {FinishReason::kTimeLimit, -1}, timeout.usage);
  Deliver(found, std::move(delta), /*scheduler_knows=*/true);
}

void OutputProcessor::End(const SequenceEnd& end) {
  MOED_CHECK(!end.status.ok(), "a request ends early without a reason");
  const auto found = streams_.find(end.id);
  if (found != streams_.end()) Close(found, ClosingCause::kScheduler, end.status);
}

ChoiceFinish OutputProcessor::MakeFinish(const Stream& stream, const Ending& ending,
                                         const SequenceFinish& finish, const SequenceUsage& usage) {
  const RequestOutput& output = *stream.open.output;
  const TimePoint submitted_at = stream.open.submitted_at;
  const std::optional<TimePoint>& first_token_at = stream.choices[ending.choice].first_token_at;
  ChoiceFinish result;
  if (output.matched_stop_string(ending.choice)) {
    result.reason = FinishReason::kStop;
    result.matched_stop_string = *output.matched_stop_string(ending.choice);
  } else {
    result.reason = finish.reason;
    result.matched_token_id = finish.matched_token_id;
  }
  result.prompt_tokens = output.num_prompt_tokens();
  result.completion_tokens = output.completion_tokens(ending.choice);
  result.queue_seconds = SecondsBetween(submitted_at, ending.scheduled_at.value_or(ending.at));
  if (first_token_at) result.first_token_seconds = SecondsBetween(submitted_at, *first_token_at);
  result.total_seconds = SecondsBetween(submitted_at, ending.at);
  result.usage = usage;
  return result;
}

void OutputProcessor::Deliver(Streams::iterator found, GenerationDelta delta,
                              bool scheduler_knows) {
  Stream& stream = found->second;
  const int32_t choice = delta.choice;
  const bool is_last = delta.finish.has_value();
  if (!stream.open.sink->OnDelta(std::move(delta))) {
    Close(found, ClosingCause::kReader, absl::ResourceExhaustedError("the reader is too slow"));
    return;
  }
  if (!is_last) return;
  stream.choices[choice].has_ended = true;
  --stream.num_live;
  if (!scheduler_knows) on_closing_({found->first, ClosingCause::kStopString, choice});
  if (stream.num_live == 0) Close(found, ClosingCause::kScheduler, absl::OkStatus());
}

void OutputProcessor::Close(Streams::iterator found, ClosingCause cause,
                            const absl::Status& status) {
  const OutputOpen open = std::move(found->second.open);
  streams_.erase(found);
  on_closing_({open.id, cause, -1});
  open.sink->OnFinish({status});
}

}  // namespace moed
