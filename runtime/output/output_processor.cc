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
  stream.open = std::move(open);
  const bool is_new = streams_.emplace(id, std::move(stream)).second;
  MOED_CHECK(is_new, "a stream is opened twice");
}

void OutputProcessor::Token(const SequenceToken& token) {
  const auto found = streams_.find(token.id);
  if (found == streams_.end()) return;
  Stream& stream = found->second;
  if (!stream.has_token) {
    stream.has_token = true;
    stream.scheduled_at = token.scheduled_at;
    stream.first_token_at = token.sampled_at;
  }
  SequenceOutput& output = *stream.open.output;
  const bool is_read = stream.open.sink->OnDelta(output.Append(token.sample, LastOf(token)));

  GenerationFinish finish;
  ClosingCause cause = ClosingCause::kScheduler;
  if (!is_read) {
    finish.status = absl::ResourceExhaustedError("the reader is too slow");
    if (!token.finish) cause = ClosingCause::kReader;
  } else if (output.matched_stop_string()) {
    finish.matched_stop_string = *output.matched_stop_string();
    if (!token.finish) cause = ClosingCause::kStopString;
  } else if (token.finish) {
    finish.reason = token.finish->reason;
    finish.matched_token_id = token.finish->matched_token_id;
  } else {
    return;
  }
  Close(found, cause, token.sampled_at, std::move(finish));
}

void OutputProcessor::End(const SequenceEnd& end) {
  const auto found = streams_.find(end.id);
  if (found == streams_.end()) return;
  Stream& stream = found->second;
  if (!stream.has_token) stream.scheduled_at = end.scheduled_at.value_or(end.ended_at);
  GenerationFinish finish;
  finish.status = end.status;
  Close(found, ClosingCause::kScheduler, end.ended_at, std::move(finish));
}

void OutputProcessor::Close(Streams::iterator found, ClosingCause cause, TimePoint now,
                            GenerationFinish finish) {
  const Stream stream = std::move(found->second);
  streams_.erase(found);
  const OutputOpen& open = stream.open;
  finish.prompt_tokens = open.num_prompt_tokens;
  finish.completion_tokens = open.output->completion_tokens();
  finish.queue_seconds = SecondsBetween(open.submitted_at, stream.scheduled_at);
  if (stream.has_token) {
    finish.first_token_seconds = SecondsBetween(open.submitted_at, stream.first_token_at);
  }
  finish.total_seconds = SecondsBetween(open.submitted_at, now);
  on_closing_(open.id, cause);
  open.sink->OnFinish(finish);
}

}  // namespace moed
