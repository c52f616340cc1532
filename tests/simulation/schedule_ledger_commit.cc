// What a committed step must give.
#include <algorithm>

#include "tests/simulation/schedule_ledger.h"

namespace moed {
namespace {

bool SameToken(const SampledToken& a, const SampledToken& b) {
  return a.token_id == b.token_id && a.logprob == b.logprob && a.top_logprobs == b.top_logprobs;
}

}  // namespace

void ScheduleLedger::Committed(absl::Span<const RankResult> results, const StepOutput& output) {
  if (!Require(!in_flight_.empty(), "a step is committed that was not planned")) return;
  const Step step = std::move(in_flight_.front());
  in_flight_.pop_front();
  ++num_steps_;
  for (const SequenceReport& told : output.reports) CheckReport(told);
  auto told = output.tokens.begin();
  for (size_t rank = 0; rank < results.size(); ++rank) {
    int64_t num_pairs = 0;
    for (const int64_t count : results[rank].expert_counts) num_pairs += count;
    Require(num_pairs == step.num_pairs_per_layer[rank] * engine_.model.num_layers, "rank ", rank,
            " counts ", num_pairs, " pairs");
    num_dropped_pairs_ += results[rank].dropped_pairs;
    for (size_t i = 0; i < step.samples[rank].size(); ++i) {
      const Name& name = step.samples[rank][i];
      if (FindChoice(name) == nullptr || Find(name.id)->mark) {
        const auto stopped = num_overrun_.find({name.id, name.choice});
        if (stopped == num_overrun_.end()) continue;
        ++counts_[Happening::kOverrun];
        Require(++stopped->second == 1 || !engine_.flushes_output, "request ", name.id, " choice ",
                name.choice, " has ", stopped->second, " rows after its end");
        continue;
      }
      if (!Require(
              told != output.tokens.end() && told->id == name.id && told->choice == name.choice,
              "request ", name.id, ": the token of choice ", name.choice, " is not told")) {
        return;
      }
      CheckToken(*told++, results[rank].samples[i]);
      if (!violation_.empty()) return;
    }
  }
  Require(told == output.tokens.end(), "a token of one who has ended is told");
  const SchedulerCounters& counters = scheduler_.counters();
  Require(counters.steps == num_steps_ && counters.prompt_tokens == num_prompt_tokens_ &&
              counters.cached_tokens == num_cached_tokens_ &&
              counters.dropped_pairs == num_dropped_pairs_,
          "counters: ", counters.steps, " steps, ", counters.prompt_tokens, " prompt tokens, ",
          counters.cached_tokens, " of them cached, ", counters.dropped_pairs,
          " dropped pairs; expected ", num_steps_, ", ", num_prompt_tokens_, ", ",
          num_cached_tokens_, ", ", num_dropped_pairs_);
  CheckState();
}

void ScheduleLedger::CheckReport(const SequenceReport& told) {
  Choice* choice = FindChoice({told.id, told.choice});
  if (!Require(choice != nullptr && !Find(told.id)->mark, "a report of one who has ended")) return;
  const Request& request = *Find(told.id);
  const SoloChoice& solo = (*request.solo)[told.choice];
  const ChunkReport& report = told.report;
  Require(report.start_position == choice->num_reported, "request ", told.id,
          ": a report from position ", report.start_position, " follows ", choice->num_reported);
  const int64_t per_row = int64_t{engine_.model.num_layers} * ExpertsPerToken(request);
  const auto num_pairs = static_cast<int64_t>(report.routed_experts.size());
  const int64_t first_pair = report.start_position * per_row;
  if (!Require(first_pair + num_pairs <= static_cast<int64_t>(solo.routed_experts().size()) ||
                   !request.request.response.routed_experts,
               "request ", told.id, ": experts past the end")) {
    return;
  }
  Require(std::equal(report.routed_experts.begin(), report.routed_experts.end(),
                     solo.routed_experts().begin() + first_pair),
          "request ", told.id, ": other experts from position ", report.start_position);
  for (size_t i = 0; i < report.prompt_logprobs.size(); ++i) {
    const size_t index = report.start_position + i;
    Require(index < solo.prompt_logprobs().size() &&
                SameToken(report.prompt_logprobs[i], solo.prompt_logprobs()[index]),
            "request ", told.id, ": another log probability of prompt token ", index + 1);
  }
  choice->num_reported +=
      static_cast<int32_t>(request.request.response.routed_experts
                               ? num_pairs / per_row
                               : static_cast<int64_t>(report.prompt_logprobs.size()));
}

void ScheduleLedger::CheckToken(const SequenceToken& token, const SampledToken& sampled) {
  const Request& request = *Find(token.id);
  Choice& choice = *FindChoice({token.id, token.choice});
  const SoloChoice& solo = (*request.solo)[token.choice];
  const int32_t index = choice.num_committed++;
  const auto where = absl::StrCat("request ", token.id, " choice ", token.choice, " token ", index);
  if (!Require(index < static_cast<int32_t>(solo.tokens().size()), where, " is past its end")) {
    return;
  }
  // One that is planned already when the output finds a stop string is drawn in vain.
  const int32_t num_wanted = solo.text().num_tokens;
  if (index >= num_wanted) ++counts_[Happening::kOverrun];
  Require(index <= num_wanted || !engine_.flushes_output, where, " comes after a stop string in ",
          num_wanted, " tokens");
  Require(SameToken(token.sample, sampled), where, " is not the one that was drawn");
  Require(SameToken(token.sample, solo.tokens()[index]), where, " is ", token.sample.token_id,
          ", alone it is ", solo.tokens()[index].token_id);
  if (request.request.response.routed_experts) {
    Require(choice.num_reported == request.num_prompt() + index, where, " comes after experts of ",
            choice.num_reported, " positions");
  } else if (request.request.response.num_prompt_logprobs >= 0 && token.choice == 0) {
    Require(choice.num_reported == request.num_prompt() - 1, where, " comes after ",
            choice.num_reported, " log probabilities of the prompt");
  }
  Require(token.usage.cached_tokens == *request.cached_tokens, where, ": ",
          token.usage.cached_tokens, " cached tokens, of ", *request.cached_tokens);
  Require(choice.is_unsure || token.usage.num_preemptions == choice.num_preemptions, where, ": ",
          token.usage.num_preemptions, " preemptions, of ", choice.num_preemptions);
  const bool is_last = index + 1 == static_cast<int32_t>(solo.tokens().size());
  if (!Require(token.finish.has_value() == is_last, where, is_last ? " goes on" : " is the last")) {
    return;
  }
  if (!is_last) return;
  Require(token.finish->reason ==
                  (solo.ends_by_stop_token() ? FinishReason::kStop : FinishReason::kLength) &&
              token.finish->matched_token_id ==
                  (solo.ends_by_stop_token() ? token.sample.token_id : -1),
          where, " ends for another reason");
  const bool was_alone = request.choices.size() == 1 && *request.cached_tokens == 0 &&
                         token.usage.num_preemptions == 0;
  Require(!was_alone || token.usage.dropped_pairs == solo.dropped_pairs(), where, ": ",
          token.usage.dropped_pairs, " dropped pairs, of ", solo.dropped_pairs());
  ++counts_[solo.ends_by_stop_token() ? Happening::kStopToken : Happening::kLength];
  Stop({token.id, token.choice});
}

}  // namespace moed
