#include "tests/runtime/schedule/trace_replay.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <list>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "nlohmann/json.hpp"

namespace moed {
namespace {

constexpr int32_t kShrink = kTraceBlockSize / kReplayBlockSize;

class Replay {
 public:
  Replay(const std::vector<TraceRequest>& trace, const ReplayOptions& options)
      : trace_(trace), options_(options), scheduler_(MakeOptions(options)) {}

  ReplayReport Run() {
    for (size_t i = 0; i < trace_.size(); ++i) {
      const auto arrival = TimePoint(std::chrono::milliseconds(trace_[i].arrival_ms));
      if (options_.step_seconds > 0) {
        while (now_ < arrival && scheduler_.HasWork()) Step();
        now_ = std::max(now_, arrival);
      }
      Submit(i);
      if (options_.step_seconds == 0) Drain();
    }
    Drain();
    const SchedulerCounters& counters = scheduler_.counters();
    report_.num_cached = counters.cached_tokens / kReplayBlockSize;
    report_.num_preemptions = counters.preemptions;
    report_.num_steps = static_cast<int64_t>(counters.steps);
    std::sort(report_.first_token_seconds.begin(), report_.first_token_seconds.end());
    return report_;
  }

 private:
  static SchedulerOptions MakeOptions(const ReplayOptions& options) {
    SchedulerOptions scheduler;
    scheduler.num_ranks = options.num_ranks;
    scheduler.max_sequences_per_rank = options.max_sequences_per_rank;
    scheduler.token_budget = options.token_budget;
    scheduler.block_size = kReplayBlockSize;
    scheduler.num_blocks_per_rank = options.num_blocks_per_rank;
    scheduler.max_waiting = 1 << 20;
    return scheduler;
  }

  void Submit(size_t index) {
    const TraceRequest& traced = trace_[index];
    GenerationRequest request;
    for (const int32_t block : traced.blocks) {
      for (int32_t i = 0; i < kReplayBlockSize; ++i) {
        request.prompt_token_ids.push_back(block * kReplayBlockSize + i);
      }
    }
    request.prompt_token_ids.push_back(next_token_++);
    request.stopping.max_tokens = std::max(1, traced.output_tokens / kShrink);
    if (!options_.route_by_prefix) {
      request.scheduling.home_rank = static_cast<int>(index % options_.num_ranks);
    }
    report_.num_blocks += static_cast<int64_t>(traced.blocks.size());
    const absl::StatusOr<SequenceId> id = scheduler_.Submit(std::move(request), now_);
    MOED_CHECK(id.ok(), "a traced request was refused");
    arrivals_[*id] = TimePoint(std::chrono::milliseconds(traced.arrival_ms));
  }

  void Drain() {
    while (scheduler_.HasWork()) Step();
  }

  void Step() {
    const StepPlan plan = scheduler_.Plan(now_);
    now_ += std::chrono::duration_cast<TimePoint::duration>(
        std::chrono::duration<double>(options_.step_seconds));
    if (plan.num_rows == 0) return;
    std::vector<RankResult> results;
    for (const RankBatch& batch : plan.batches) {
      RankResult result;
      result.step = batch.step;
      for (const SequenceChunk& chunk : batch.chunks) {
        if (!chunk.sample) continue;
        SampledToken sample;
        sample.slot = chunk.slot;
        sample.token_id = next_token_++;
        result.samples.push_back(std::move(sample));
      }
      results.push_back(std::move(result));
    }
    const absl::StatusOr<StepOutput> output = scheduler_.Commit(results, now_);
    MOED_CHECK(output.ok(), "an answer does not fit its plan");
    for (const SequenceToken& token : output->tokens) {
      const auto arrival = arrivals_.find(token.id);
      if (arrival == arrivals_.end()) continue;
      report_.first_token_seconds.push_back(
          std::chrono::duration<double>(now_ - arrival->second).count());
      arrivals_.erase(arrival);
    }
  }

  const std::vector<TraceRequest>& trace_;
  const ReplayOptions options_;
  Scheduler scheduler_;
  TimePoint now_;
  int32_t next_token_ = 1 << 30;  // above the trace's: a token that no other sequence has
  std::unordered_map<SequenceId, TimePoint> arrivals_;  // of those without a token
  ReplayReport report_;
};

}  // namespace

absl::StatusOr<std::vector<TraceRequest>> ReadBlockTrace(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path, " cannot be read"));
  std::vector<TraceRequest> trace;
  std::string line;
  while (std::getline(file, line)) {
    const nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("timestamp") || !json.contains("output_length") ||
        !json.contains("hash_ids")) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", trace.size() + 1, " is no request"));
    }
    TraceRequest request;
    request.arrival_ms = json["timestamp"];
    request.output_tokens = json["output_length"];
    for (const nlohmann::json& block : json["hash_ids"]) request.blocks.push_back(block);
    trace.push_back(std::move(request));
  }
  return trace;
}

ReplayReport ReplayTrace(const std::vector<TraceRequest>& trace, const ReplayOptions& options) {
  return Replay(trace, options).Run();
}

int64_t CountRepeats(const std::vector<TraceRequest>& trace) {
  std::unordered_set<int32_t> seen;
  int64_t num_repeats = 0;
  for (const TraceRequest& request : trace) {
    for (const int32_t block : request.blocks) num_repeats += seen.insert(block).second ? 0 : 1;
  }
  return num_repeats;
}

int64_t CountLruHits(const std::vector<TraceRequest>& trace, int64_t capacity) {
  std::list<int32_t> by_use;  // the most recent first
  std::unordered_map<int32_t, std::list<int32_t>::iterator> places;
  int64_t num_hits = 0;
  for (const TraceRequest& request : trace) {
    for (const int32_t block : request.blocks) {
      const auto found = places.find(block);
      if (found != places.end()) {
        ++num_hits;
        by_use.splice(by_use.begin(), by_use, found->second);
        continue;
      }
      by_use.push_front(block);
      places[block] = by_use.begin();
      if (static_cast<int64_t>(places.size()) > capacity) {
        places.erase(by_use.back());
        by_use.pop_back();
      }
    }
  }
  return num_hits;
}

}  // namespace moed
