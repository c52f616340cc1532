#include "kernels/cpu/fast/draw.h"

#include <algorithm>
#include <cmath>

#include "kernels/core/philox.h"
#include "kernels/cpu/fast/falling_order.h"

namespace moed::fast {
namespace {

// Places of the falling order that a cut has left: [begin, end) without [gap_begin, gap_end).
struct Kept {
  int64_t begin = 0;
  int64_t gap_begin = 0;
  int64_t gap_end = 0;
  int64_t end = 0;
  double total = 0;  // of the weights
};

// A row's weights exp(z), z = (logit - largest) / temperature, by place in the falling order.
class Weights {
 public:
  Weights(const IsaKernels& isa, const float* logits, int64_t vocab, float largest,
          float temperature, uint64_t* keys)
      : isa_(isa),
        logits_(logits),
        vocab_(vocab),
        largest_(largest),
        temperature_(temperature),
        order_(logits, vocab, largest, temperature, keys) {}

  int64_t vocab() const { return vocab_; }
  // As FallingOrder's: these sort as far as they are asked.
  bool Has(int64_t place) { return order_.Has(place); }
  int32_t id(int64_t place) const { return order_.id(place); }

  float logit(int64_t place) const { return logits_[order_.id(place)]; }
  double z(int64_t place) const {
    return (static_cast<double>(logit(place)) - largest_) / temperature_;
  }
  double weight(int64_t place) const { return std::exp(z(place)); }

  double TotalOfAll() const { return isa_.sum_exp(logits_, vocab_, largest_, temperature_); }
  // Sum of z * weight over the first `end` places.
  double Moment(int64_t end) {
    if (end == vocab_) return isa_.sum_z_exp(logits_, vocab_, largest_, temperature_);
    double sum = 0;
    for (int64_t i = 0; i < end && Has(i); ++i) sum += z(i) * weight(i);
    return sum;
  }

 private:
  const IsaKernels& isa_;
  const float* const logits_;
  const int64_t vocab_;
  const float largest_;
  const double temperature_;
  FallingOrder order_;
};

// These three keep a first part of the falling order, so only that part is ever sorted.
Kept CutTail(Weights& weights, const SamplingRow& row) {
  Kept kept;
  kept.end = row.top_k == 0 ? weights.vocab() : std::min<int64_t>(row.top_k, weights.vocab());
  if (kept.end == weights.vocab()) {
    kept.total = weights.TotalOfAll();
  } else {
    for (int64_t i = 0; i < kept.end && weights.Has(i); ++i) kept.total += weights.weight(i);
  }
  if (row.top_p < 1.0F || row.min_p > 0) {
    const double wanted = row.top_p < 1.0F ? row.top_p * kept.total : 2 * kept.total;
    double cumulative = 0;
    int64_t i = 0;
    for (; i < kept.end && weights.Has(i) && (i == 0 || cumulative < wanted); ++i) {
      const double weight = weights.weight(i);
      if (i > 0 && (weight < row.min_p || weight == 0)) break;
      cumulative += weight;
    }
    kept.end = i;
    kept.total = cumulative;
  }
  return kept;
}

// With p = exp(z) / total, the entropy is ln(total) - mean(z), so that a token's surprise differs
// from it by |z - mean(z)|: the nearest tokens lie around one place of the falling order, and are
// taken from there upwards and downwards. Upwards they come in groups of equal logits, each of
// them from its lowest id, and the last group may be taken in part.
Kept CutAtypical(Weights& weights, const Kept& before, float typical_p) {
  const double mean = weights.Moment(before.end) / before.total;
  const double wanted = typical_p * before.total;
  int64_t next_down = 0;
  while (next_down < before.end && weights.Has(next_down) && weights.z(next_down) >= mean) {
    ++next_down;
  }
  int64_t group_begin = next_down;
  int64_t group_end = next_down;
  int64_t next_up = next_down;
  double cumulative = 0;
  while (cumulative < wanted) {
    if (next_up == group_end && group_begin > 0) {
      group_end = group_begin;
      const float logit = weights.logit(group_end - 1);
      while (group_begin > 0 && weights.logit(group_begin - 1) == logit) --group_begin;
      next_up = group_begin;
    }
    const bool up = next_up < group_end;
    const bool down =
        next_down < before.end && weights.Has(next_down) && weights.weight(next_down) > 0;
    if (!up && !down) break;
    const bool take_up = up && (!down || weights.z(next_up) - mean <= mean - weights.z(next_down));
    cumulative += weights.weight(take_up ? next_up++ : next_down++);
  }
  return {group_begin, next_up, group_end, next_down, cumulative};
}

}  // namespace

int32_t Draw(const IsaKernels& isa, const float* logits, int64_t vocab, float largest,
             const SamplingRow& row, uint64_t* keys) {
  Weights weights(isa, logits, vocab, largest, row.temperature, keys);
  Kept kept = CutTail(weights, row);
  if (row.typical_p < 1.0F) kept = CutAtypical(weights, kept, row.typical_p);
  const double wanted = UniformForToken(row.seed, row.choice_index, row.position) * kept.total;
  double cumulative = 0;
  int32_t drawn = 0;
  for (int64_t i = kept.begin; i < kept.end && weights.Has(i); ++i) {
    if (i == kept.gap_begin) i = kept.gap_end;
    if (i == kept.end) break;
    const double weight = weights.weight(i);
    if (weight == 0) break;
    drawn = weights.id(i);
    cumulative += weight;
    if (cumulative > wanted) break;
  }
  return drawn;
}

}  // namespace moed::fast
