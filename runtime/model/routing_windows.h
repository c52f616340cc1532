// Routing counts over the last seconds, minutes, and since the start. Pure: time is passed in.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"

namespace moed {

// What one rank counted in one step; the fields of RankResult that are kept over time.
struct RoutingCounts {
  absl::Span<const int64_t> expert_counts;  // [num_layers * num_experts]
  absl::Span<const int64_t> same_first;     // [num_layers], or empty: nothing to repeat
  absl::Span<const int64_t> any_shared;     // [num_layers], or empty
  int64_t repetition_rows = 0;
  int64_t dropped_pairs = 0;
};

// The same, added up.
struct RoutingSums {
  RoutingSums(int num_layers, int num_experts);

  void Add(const RoutingCounts& counts);
  void Add(const RoutingSums& other);
  void Clear();

  std::vector<int64_t> expert_counts;  // [num_layers * num_experts]
  std::vector<int64_t> same_first;     // [num_layers]
  std::vector<int64_t> any_shared;     // [num_layers]
  int64_t repetition_rows = 0;
  int64_t dropped_pairs = 0;
};

// One thread at a time. Buckets of one second serve windows of up to two minutes, buckets of half a
// minute those of up to an hour. A window is rounded up to whole buckets: the answer is exactly
// what was added since the start of the oldest bucket that reaches into the window, which is less
// than one bucket more than was asked for; RoutingWindow::covered says how much it is.
//
// Time that runs backwards counts as standing still.
class RoutingWindows {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  static constexpr std::chrono::seconds kFineBucket{1};
  static constexpr std::chrono::seconds kCoarseBucket{30};
  static constexpr std::chrono::seconds kMaxFineWindow{120};
  static constexpr std::chrono::seconds kMaxWindow{3600};

  struct Window {
    RoutingSums sums;
    std::chrono::steady_clock::duration covered{};  // from the oldest bucket's start until now
  };

  RoutingWindows(int num_layers, int num_experts, TimePoint start);

  // Memory of all buckets, allocated by the constructor; nothing is allocated later.
  static int64_t Bytes(int num_layers, int num_experts);

  // The sizes are the model's; num_layers * (num_experts + 2) additions.
  void Add(const RoutingCounts& counts, TimePoint now);

  // The last `window` before `now`; kMaxWindow where it is longer, at least one bucket. Nullopt:
  // since the start.
  Window Query(std::optional<std::chrono::seconds> window, TimePoint now) const;

 private:
  // Buckets of one length, each named by its number since the start. Opening one may take the place
  // of an old one.
  struct Ring {
    Ring(int num_layers, int num_experts, std::chrono::seconds bucket, std::chrono::seconds span);

    int64_t NumberAt(std::chrono::steady_clock::duration since_start) const;
    // The sums of bucket `number`, emptied where they are an older one's.
    RoutingSums& Open(int64_t number);
    // Adds the buckets from number `first` on to `sums`.
    void AddSince(int64_t first, RoutingSums* sums) const;

    std::chrono::seconds length;
    std::vector<RoutingSums> buckets;
    std::vector<int64_t> numbers;  // which bucket each holds; -1: none yet
  };

  std::chrono::steady_clock::duration SinceStart(TimePoint now) const;
  const RoutingSums& open() const;

  const int num_layers_;
  const int num_experts_;
  const TimePoint start_;
  TimePoint latest_;  // time never runs back behind this
  // Counts go to the open fine bucket alone, and when it closes also to the coarse one and to
  // closed_.
  int64_t open_number_ = 0;
  Ring fine_;
  Ring coarse_;
  RoutingSums closed_;  // since the start
};

}  // namespace moed
