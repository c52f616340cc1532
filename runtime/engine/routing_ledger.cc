#include "runtime/engine/routing_ledger.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"

namespace moed {
namespace {

// Read while the lock is held: well under a millisecond of the engine thread's time.
constexpr int64_t kEntriesPerPiece = int64_t{1} << 17;

absl::Status CheckSize(int rank, const char* what, absl::Span<const int64_t> counts,
                       size_t expected) {
  if (counts.size() == expected) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("rank ", rank, " counted ", counts.size(), " ", what, ", of ", expected));
}

absl::Status CheckPositive(const char* name, int value) {
  if (value >= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " is ", value, ", must be at least 1"));
}

RoutingCounts CountsOf(const RankResult& result) {
  return {result.expert_counts, result.repetition.same_first, result.repetition.any_shared,
          result.repetition.num_rows, result.dropped_pairs};
}

void AddTo(const RankResult& result, RankTotals* totals) {
  ++totals->num_steps;
  totals->compute_seconds += result.compute_seconds;
  totals->collective_wait_seconds += result.collective_wait_seconds;
  totals->exchange_bytes_sent += result.exchange_bytes_sent;
  totals->exchange_bytes_received += result.exchange_bytes_received;
  for (const int64_t count : result.expert_counts) totals->routed_pairs += count;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RoutingLedger>> RoutingLedger::Create(
    const RoutingLedgerOptions& options, TimePoint start) {
  MOED_RETURN_IF_ERROR(CheckPositive("num_ranks", options.num_ranks));
  MOED_RETURN_IF_ERROR(CheckPositive("num_layers", options.num_layers));
  MOED_RETURN_IF_ERROR(CheckPositive("num_experts", options.num_experts));
  MOED_RETURN_IF_ERROR(CheckPositive("experts_per_token", options.experts_per_token));
  if (options.experts_per_token > options.num_experts) {
    return absl::InvalidArgumentError(absl::StrCat("experts_per_token is ",
                                                   options.experts_per_token, " of ",
                                                   options.num_experts, " experts"));
  }
  std::optional<TokenRouting> tokens;
  if (options.keeps_tokens) {
    MOED_ASSIGN_OR_RETURN(
        tokens, TokenRouting::Create({options.num_layers, options.num_experts, options.vocab},
                                     options.max_token_bytes));
  }
  return std::unique_ptr<RoutingLedger>(new RoutingLedger(options, start, std::move(tokens)));
}

RoutingLedger::RoutingLedger(const RoutingLedgerOptions& options, TimePoint start,
                             std::optional<TokenRouting> tokens)
    : options_(options),
      windows_(options.num_layers, options.num_experts, start),
      ranks_(options.num_ranks),
      tokens_(std::move(tokens)) {}

absl::Status RoutingLedger::Check(absl::Span<const RankResult> results) const {
  if (results.size() != static_cast<size_t>(options_.num_ranks)) {
    return absl::InternalError(
        absl::StrCat(results.size(), " ranks answered, of ", options_.num_ranks));
  }
  const size_t num_layers = options_.num_layers;
  for (int rank = 0; rank < options_.num_ranks; ++rank) {
    const RankResult& result = results[rank];
    MOED_RETURN_IF_ERROR(CheckSize(rank, "experts over all layers", result.expert_counts,
                                   num_layers * options_.num_experts));
    const RepetitionCounts& repetition = result.repetition;
    if (repetition.num_rows == 0 && repetition.same_first.empty() &&
        repetition.any_shared.empty()) {
      continue;
    }
    MOED_RETURN_IF_ERROR(
        CheckSize(rank, "layers' repeated first choices", repetition.same_first, num_layers));
    MOED_RETURN_IF_ERROR(
        CheckSize(rank, "layers' repeated choices", repetition.any_shared, num_layers));
  }
  return absl::OkStatus();
}

absl::Status RoutingLedger::Add(absl::Span<const RankResult> results, TimePoint now) {
  MOED_RETURN_IF_ERROR(Check(results));
  MutexLock lock(mutex_);
  if (tokens_.has_value()) {
    for (size_t rank = 0; rank < results.size(); ++rank) {
      const RoutingTrace& trace = results[rank].routing;
      const absl::Status status = tokens_->Check(trace.token_ids, trace.expert_ids);
      if (!status.ok()) {
        return absl::InternalError(absl::StrCat("rank ", rank, " ", status.message()));
      }
    }
  }
  for (size_t rank = 0; rank < results.size(); ++rank) {
    const RankResult& result = results[rank];
    windows_.Add(CountsOf(result), now);
    AddTo(result, &ranks_[rank]);
    if (tokens_.has_value()) tokens_->Add(result.routing.token_ids, result.routing.expert_ids);
  }
  return absl::OkStatus();
}

ExpertLoad RoutingLedger::Load(std::optional<std::chrono::seconds> window, TimePoint now) const {
  RoutingWindows::Window counted = [&] {
    MutexLock lock(mutex_);
    return windows_.Query(window, now);
  }();
  ExpertLoad load;
  load.num_layers = options_.num_layers;
  load.num_experts = options_.num_experts;
  load.covered_seconds = std::chrono::duration<double>(counted.covered).count();
  load.routing = SummarizeRoutingByLayer(counted.sums.expert_counts, options_.num_layers,
                                         options_.num_experts);
  load.expert_tokens = std::move(counted.sums.expert_counts);
  for (int layer = 0; layer < options_.num_layers; ++layer) {
    load.repetition.push_back(SummarizeRepetition(counted.sums.repetition_rows,
                                                  counted.sums.same_first[layer],
                                                  counted.sums.any_shared[layer]));
  }
  load.random_repetition = RandomRepetitionOf(options_.num_experts, options_.experts_per_token);
  load.dropped_pairs = counted.sums.dropped_pairs;
  return load;
}

absl::StatusOr<TokenRoutingReport> RoutingLedger::Tokens(int top_n) const {
  if (!options_.keeps_tokens) {
    return absl::FailedPreconditionError(
        "experts are not counted by token id: the operator has not turned it on");
  }
  TokenRoutingReader reader({options_.num_layers, options_.num_experts, options_.vocab}, top_n);
  const int64_t piece = std::max<int64_t>(
      1, kEntriesPerPiece / (static_cast<int64_t>(options_.num_layers) * options_.num_experts));
  bool has_more = true;
  while (has_more) {
    MutexLock lock(mutex_);
    has_more = reader.ReadSome(*tokens_, static_cast<int32_t>(piece));
  }
  return reader.Finish();
}

std::vector<RankTotals> RoutingLedger::Ranks() const {
  MutexLock lock(mutex_);
  return ranks_;
}

}  // namespace moed
