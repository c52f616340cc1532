// Runs a Scheduler against FakeRanks, step by step, and writes its plans as text.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "runtime/schedule/scheduler.h"
#include "tests/support/fake_rank.h"

namespace moed {

inline TimePoint At(int seconds) { return TimePoint(std::chrono::seconds(seconds)); }

inline GenerationRequest MakeRequest(int32_t num_prompt_tokens, int32_t max_tokens,
                                     uint64_t seed = 1) {
  GenerationRequest request;
  for (int32_t i = 0; i < num_prompt_tokens; ++i) request.prompt_token_ids.push_back(100 + i);
  request.sampling.seed = seed;
  request.stopping.max_tokens = max_tokens;
  request.response.text = false;
  return request;
}

// One rank's share: "0[4,7)* 2@9*": slot 0 computes prompt positions 4 to 6 and samples, slot 2
// decodes at position 9; '!' marks suppressed ids, "/1" that slot 1 draws a token as well, '+' a
// slot filled in this step; "-" is nothing.
inline std::string BatchText(const RankBatch& batch) {
  std::vector<std::string> chunks;
  for (const SequenceChunk& chunk : batch.chunks) {
    std::string text;
    for (const SlotInit& init : batch.admitted) {
      if (init.slot == chunk.slot) text.push_back('+');
    }
    const auto end = chunk.start_position + static_cast<int32_t>(chunk.tokens.size());
    if (chunk.tokens[0] == kLastSampledToken) {
      absl::StrAppend(&text, chunk.slot, "@", chunk.start_position);
    } else {
      absl::StrAppend(&text, chunk.slot, "[", chunk.start_position, ",", end, ")");
    }
    absl::StrAppend(&text, chunk.sample ? "*" : "", chunk.suppress ? "!" : "");
    for (const int32_t fork : chunk.fork_slots) absl::StrAppend(&text, "/", fork);
    chunks.push_back(text);
  }
  return chunks.empty() ? "-" : absl::StrJoin(chunks, " ");
}

class SchedulerHarness {
 public:
  explicit SchedulerHarness(const SchedulerOptions& options) : scheduler_(options) {
    FakeRankOptions rank;
    rank.block_size = options.block_size;
    rank.num_blocks = options.num_blocks_per_rank;
    rank.max_sequences = options.max_sequences_per_rank;
    rank.max_rows = options.token_budget;
    for (int r = 0; r < options.num_ranks; ++r) ranks_.emplace_back(rank);
    vocab_ = rank.vocab;
  }

  Scheduler& scheduler() { return scheduler_; }
  int32_t vocab() const { return vocab_; }

  SequenceId Submit(GenerationRequest request, int at_seconds = 0) {
    const absl::StatusOr<SequenceId> id = scheduler_.Submit(std::move(request), At(at_seconds));
    EXPECT_TRUE(id.ok()) << id.status();
    return id.ok() ? *id : 0;
  }

  // Plans only; Finish runs and commits the oldest plan with rows.
  std::string Plan(int at_seconds = 0) {
    plan_ = scheduler_.Plan(At(at_seconds));
    for (const SequenceTimeout& timeout : plan_.timeouts) {
      events.push_back(absl::StrCat(Name(timeout.id, timeout.choice), " time"));
    }
    for (const SequenceEnd& end : plan_.ended) {
      events.push_back(absl::StrCat(end.id, " ", absl::StatusCodeToString(end.status.code())));
    }
    if (plan_.num_rows > 0) uncommitted_.push_back(plan_.batches);
    std::vector<std::string> texts;
    for (const RankBatch& batch : plan_.batches) texts.push_back(BatchText(batch));
    return absl::StrJoin(texts, " | ");
  }

  void Finish(int at_seconds = 0) {
    if (uncommitted_.empty()) return;
    const std::vector<RankBatch> batches = std::move(uncommitted_.front());
    uncommitted_.pop_front();
    std::vector<RankResult> results;
    for (size_t r = 0; r < ranks_.size(); ++r) {
      results.push_back(ranks_[r].Step(batches[r]));
      EXPECT_EQ(ranks_[r].breach(), "") << "rank " << r << ", step " << batches[r].step;
    }
    const auto committed = scheduler_.Commit(results, At(at_seconds));
    ASSERT_TRUE(committed.ok()) << committed.status();
    for (const SequenceReport& report : committed->reports) reports.push_back(report);
    for (const SequenceToken& token : committed->tokens) {
      tokens[{token.id, token.choice}].push_back(token.sample.token_id);
      usage[{token.id, token.choice}] = token.usage;
      if (!token.finish) continue;
      const bool is_stop = token.finish->reason == FinishReason::kStop;
      events.push_back(absl::StrCat(Name(token.id, token.choice), is_stop ? " stop" : " length"));
    }
  }

  std::string Step(int at_seconds = 0) {
    std::string text = Plan(at_seconds);
    Finish(at_seconds);
    return text;
  }

  const StepPlan& plan() const { return plan_; }
  const std::vector<int32_t>& Tokens(SequenceId id, int32_t choice = 0) {
    return tokens[{id, choice}];
  }

  // By request and choice.
  std::map<std::pair<SequenceId, int32_t>, std::vector<int32_t>> tokens;
  std::map<std::pair<SequenceId, int32_t>, SequenceUsage> usage;  // with the last token
  std::vector<SequenceReport> reports;
  std::vector<std::string> events;  // "<id>[.<choice>] <how it ended>", in order

 private:
  static std::string Name(SequenceId id, int32_t choice) {
    return choice == 0 ? absl::StrCat(id) : absl::StrCat(id, ".", choice);
  }

  Scheduler scheduler_;
  std::vector<FakeRank> ranks_;
  StepPlan plan_;
  std::deque<std::vector<RankBatch>> uncommitted_;
  int32_t vocab_ = 0;
};

}  // namespace moed
