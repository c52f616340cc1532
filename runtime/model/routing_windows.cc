#include "runtime/model/routing_windows.h"

#include <algorithm>

#include "kernels/core/check.h"

namespace moed {
namespace {

void AddTo(absl::Span<const int64_t> counts, std::vector<int64_t>* sums) {
  MOED_CHECK(counts.size() == sums->size() || counts.empty(), "the counts are another model's");
  for (size_t i = 0; i < counts.size(); ++i) (*sums)[i] += counts[i];
}

// One more than fills the span: the oldest and the newest may each be there in part.
constexpr int64_t NumBuckets(std::chrono::seconds length, std::chrono::seconds span) {
  return span / length + 1;
}

}  // namespace

RoutingSums::RoutingSums(int num_layers, int num_experts)
    : expert_counts(static_cast<size_t>(num_layers) * static_cast<size_t>(num_experts), 0),
      same_first(num_layers, 0),
      any_shared(num_layers, 0) {}

void RoutingSums::Add(const RoutingCounts& counts) {
  AddTo(counts.expert_counts, &expert_counts);
  AddTo(counts.same_first, &same_first);
  AddTo(counts.any_shared, &any_shared);
  repetition_rows += counts.repetition_rows;
  dropped_pairs += counts.dropped_pairs;
}

void RoutingSums::Add(const RoutingSums& other) {
  Add({other.expert_counts, other.same_first, other.any_shared, other.repetition_rows,
       other.dropped_pairs});
}

void RoutingSums::Clear() {
  std::fill(expert_counts.begin(), expert_counts.end(), 0);
  std::fill(same_first.begin(), same_first.end(), 0);
  std::fill(any_shared.begin(), any_shared.end(), 0);
  repetition_rows = 0;
  dropped_pairs = 0;
}

RoutingWindows::Ring::Ring(int num_layers, int num_experts, std::chrono::seconds bucket,
                           std::chrono::seconds span)
    : length(bucket),
      buckets(NumBuckets(bucket, span), RoutingSums(num_layers, num_experts)),
      numbers(buckets.size(), -1) {}

int64_t RoutingWindows::Ring::NumberAt(std::chrono::steady_clock::duration since_start) const {
  return since_start / length;
}

RoutingSums& RoutingWindows::Ring::Open(int64_t number) {
  const size_t place = static_cast<size_t>(number) % buckets.size();
  if (numbers[place] != number) {
    buckets[place].Clear();
    numbers[place] = number;
  }
  return buckets[place];
}

void RoutingWindows::Ring::AddSince(int64_t first, RoutingSums* sums) const {
  for (size_t place = 0; place < buckets.size(); ++place) {
    if (numbers[place] >= first) sums->Add(buckets[place]);
  }
}

RoutingWindows::RoutingWindows(int num_layers, int num_experts, TimePoint start)
    : num_layers_(num_layers),
      num_experts_(num_experts),
      start_(start),
      latest_(start),
      fine_(num_layers, num_experts, kFineBucket, kMaxFineWindow),
      coarse_(num_layers, num_experts, kCoarseBucket, kMaxWindow),
      closed_(num_layers, num_experts) {
  fine_.Open(0);
}

int64_t RoutingWindows::Bytes(int num_layers, int num_experts) {
  const int64_t num_sums =
      NumBuckets(kFineBucket, kMaxFineWindow) + NumBuckets(kCoarseBucket, kMaxWindow) + 1;
  return num_sums * (static_cast<int64_t>(num_layers) * (num_experts + 2) *
                         static_cast<int64_t>(sizeof(int64_t)) +
                     static_cast<int64_t>(sizeof(RoutingSums)));
}

std::chrono::steady_clock::duration RoutingWindows::SinceStart(TimePoint now) const {
  return std::max(now, latest_) - start_;
}

const RoutingSums& RoutingWindows::open() const {
  return fine_.buckets[static_cast<size_t>(open_number_) % fine_.buckets.size()];
}

void RoutingWindows::Add(const RoutingCounts& counts, TimePoint now) {
  latest_ = std::max(latest_, now);
  const int64_t number = fine_.NumberAt(SinceStart(now));
  if (number != open_number_) {
    coarse_.Open(coarse_.NumberAt(open_number_ * kFineBucket)).Add(open());
    closed_.Add(open());
    open_number_ = number;
  }
  fine_.Open(number).Add(counts);
}

RoutingWindows::Window RoutingWindows::Query(std::optional<std::chrono::seconds> window,
                                             TimePoint now) const {
  const std::chrono::steady_clock::duration since_start = SinceStart(now);
  Window result{RoutingSums(num_layers_, num_experts_), since_start};
  if (!window.has_value()) {
    result.sums = closed_;
    result.sums.Add(open());
    return result;
  }
  const std::chrono::seconds length = std::clamp(*window, kFineBucket, kMaxWindow);
  const Ring& ring = length <= kMaxFineWindow ? fine_ : coarse_;
  const std::chrono::steady_clock::duration begin =
      std::max(since_start - length, std::chrono::steady_clock::duration::zero());
  const int64_t first = ring.NumberAt(begin);
  ring.AddSince(first, &result.sums);
  if (&ring == &coarse_ && coarse_.NumberAt(open_number_ * kFineBucket) >= first) {
    result.sums.Add(open());
  }
  result.covered = since_start - first * ring.length;
  return result;
}

}  // namespace moed
