// What the ranks report about routing and work, kept for operators.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/core/mutex.h"
#include "runtime/model/routing_statistics.h"
#include "runtime/model/routing_windows.h"
#include "runtime/model/token_routing.h"
#include "runtime/model/token_routing_report.h"
#include "runtime/schedule/batch_plan.h"
#include "runtime/schedule/request.h"

namespace moed {

struct RoutingLedgerOptions {
  int num_ranks = 1;
  int num_layers = 1;
  int num_experts = 1;
  int experts_per_token = 1;  // the model's, for the random baseline
  // Keeps RankResult::routing: which experts each token id goes to. Tells about content.
  bool keeps_tokens = false;
  int32_t vocab = 0;  // with keeps_tokens
  int64_t max_token_bytes = int64_t{1} << 30;
};

// Load and repetition over a window, or since the start.
struct ExpertLoad {
  int num_layers = 0;
  int num_experts = 0;
  // What the window really covers: it is rounded up to whole buckets (RoutingWindows), and is never
  // longer than the ledger is old.
  double covered_seconds = 0;
  std::vector<int64_t> expert_tokens;         // [num_layers * num_experts]
  std::vector<RoutingSummary> routing;        // [num_layers]
  std::vector<RepetitionSummary> repetition;  // [num_layers]
  RandomRepetition random_repetition;         // what a router that draws at random would show
  int64_t dropped_pairs = 0;
};

// Of one rank since the start.
struct RankTotals {
  uint64_t num_steps = 0;
  double compute_seconds = 0;
  double collective_wait_seconds = 0;
  int64_t exchange_bytes_sent = 0;
  int64_t exchange_bytes_received = 0;
  int64_t routed_pairs = 0;  // (row, chosen expert) of the rows whose home it is, in all layers
};

// Thread-safe. Its lock is held for additions and copies only; TokenRoutingReport is made in small
// pieces, so that the engine thread never waits for a whole one. No lock is taken while it is held.
class RoutingLedger {
 public:
  static constexpr std::chrono::seconds kMaxWindow = RoutingWindows::kMaxWindow;

  // INVALID_ARGUMENT for options out of range; RESOURCE_EXHAUSTED with numbers where the counts per
  // token id take more than max_token_bytes. All memory is allocated here.
  static absl::StatusOr<std::unique_ptr<RoutingLedger>> Create(const RoutingLedgerOptions& options,
                                                               TimePoint start);

  // A step that has been committed; results [num_ranks]. INTERNAL, naming the rank, where one does
  // not have the model's size; nothing of the step is then counted.
  absl::Status Add(absl::Span<const RankResult> results, TimePoint now);

  // The last `window` (at least one second, at most kMaxWindow; others are clipped), or since the
  // start.
  ExpertLoad Load(std::optional<std::chrono::seconds> window, TimePoint now) const;

  // top_n >= 0. FAILED_PRECONDITION without keeps_tokens. While steps go on, token ids are read one
  // after another: each is exact, of its moment.
  absl::StatusOr<TokenRoutingReport> Tokens(int top_n) const;

  std::vector<RankTotals> Ranks() const;  // [num_ranks]

 private:
  RoutingLedger(const RoutingLedgerOptions& options, TimePoint start,
                std::optional<TokenRouting> tokens);
  absl::Status Check(absl::Span<const RankResult> results) const;

  const RoutingLedgerOptions options_;
  mutable Mutex mutex_;
  RoutingWindows windows_ ABSL_GUARDED_BY(mutex_);
  std::vector<RankTotals> ranks_ ABSL_GUARDED_BY(mutex_);  // [num_ranks]
  std::optional<TokenRouting> tokens_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moed
