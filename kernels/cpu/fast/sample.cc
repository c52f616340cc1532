#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/core/check.h"
#include "kernels/core/philox.h"
#include "kernels/cpu/fast/falling_order.h"
#include "kernels/cpu/fast/fast_ops.h"
#include "kernels/cpu/fast/log_softmax.h"

namespace moed::fast {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Where no token has a chance: the lowest id that is not suppressed, or 0.
int32_t LowestAllowed(absl::Span<const int32_t> suppressed, int64_t vocab, uint64_t* scratch) {
  const auto size = std::min<int64_t>(static_cast<int64_t>(suppressed.size()), vocab);
  for (int64_t i = 0; i < vocab; ++i) scratch[i] = 0;
  for (const int32_t id : suppressed) scratch[id] = 1;
  for (int64_t id = 0; id <= size && id < vocab; ++id) {
    if (scratch[id] == 0) return static_cast<int32_t>(id);
  }
  return 0;
}

int32_t LowestIdOf(const float* logits, int64_t vocab, float value) {
  return static_cast<int32_t>(std::find(logits, logits + vocab, value) - logits);
}

// All cuts keep a first part of the falling order, so only that part is ever sorted.
int32_t Draw(const IsaKernels& isa, const float* logits, int64_t vocab, float largest,
             const SamplingRow& row, uint64_t* keys) {
  FallingOrder order(logits, vocab, largest, row.temperature, keys);
  const auto probability = [&](int64_t i) {
    const double below = static_cast<double>(logits[order.id(i)]) - largest;
    return std::exp(below / row.temperature);
  };
  int64_t kept = row.top_k == 0 ? vocab : std::min<int64_t>(row.top_k, vocab);
  double total = 0;
  if (kept == vocab) {
    total = isa.sum_exp(logits, vocab, largest, row.temperature);
  } else {
    for (int64_t i = 0; i < kept && order.Has(i); ++i) total += probability(i);
  }
  if (row.top_p < 1.0F || row.min_p > 0) {
    const double wanted = row.top_p < 1.0F ? row.top_p * total : 2 * total;
    double cumulative = 0;
    int64_t i = 0;
    for (; i < kept && order.Has(i) && (i == 0 || cumulative < wanted); ++i) {
      const double p = probability(i);
      if (i > 0 && (p < row.min_p || p == 0)) break;
      cumulative += p;
    }
    kept = i;
    total = cumulative;
  }
  const double wanted = UniformForToken(row.seed, row.choice_index, row.position) * total;
  double cumulative = 0;
  int32_t drawn = LowestIdOf(logits, vocab, largest);
  for (int64_t i = 0; i < kept && order.Has(i); ++i) {
    const double p = probability(i);
    if (p == 0) break;
    drawn = order.id(i);
    cumulative += p;
    if (cumulative > wanted) break;
  }
  return drawn;
}

void SampleRow(const IsaKernels& isa, const SampleArgs& args, int64_t r, float* tamed,
               uint64_t* keys) {
  const SamplingRow& row = args.rows[static_cast<size_t>(r)];
  const int64_t vocab = args.logits.dim(1);
  const float* logits = args.logits.data<float>() + r * vocab;
  const LogSoftmax softmax = TameRow(isa, logits, vocab, tamed);
  if (args.want_top) {
    WriteTop(softmax, tamed, vocab, args.top_ids.data<int32_t>() + r * kMaxLogprobs,
             args.top_logprobs.data<float>() + r * kMaxLogprobs);
  }
  for (const int32_t id : row.suppressed_token_ids) {
    MOED_CHECK(id >= 0 && id < vocab, "Sample: a suppressed token id is out of range");
    tamed[id] = -kInfinity;
  }
  const float largest =
      row.suppressed_token_ids.empty() ? softmax.largest : isa.maximum(tamed, vocab);
  int32_t token = 0;
  if (largest == -kInfinity) {
    token = LowestAllowed(row.suppressed_token_ids, vocab, keys);
  } else if (row.temperature == 0) {
    token = LowestIdOf(tamed, vocab, largest);
  } else {
    token = Draw(isa, tamed, vocab, largest, row, keys);
  }
  args.token_ids.data<int32_t>()[r] = token;
  args.last_sampled.data<int32_t>()[row.slot] = token;
  args.logprobs.data<float>()[r] = softmax.Of(Tame(logits[token]));
}

}  // namespace

void Sample(const Context& context, const SampleArgs& args) {
  const int64_t num_rows = args.logits.dim(0);
  const int64_t vocab = args.logits.dim(1);
  if (num_rows == 0) return;
  MOED_CHECK(vocab > 0, "Sample: the vocabulary is empty");
  MOED_CHECK(vocab * (4 + 8) + 64 <= context.workspace.slots.slot_bytes(),
             "Sample: vocab exceeds the workspace's limits");
  context.pool.ParallelFor(num_rows, Grain(context.pool, num_rows, vocab * 2),
                           [&](int64_t begin, int64_t end) {
                             const ScratchSlots::Lease lease(context.workspace.slots);
                             uint64_t* keys = lease.data<uint64_t>();
                             float* tamed = reinterpret_cast<float*>(keys + vocab);
                             for (int64_t r = begin; r < end; ++r)
                               SampleRow(context.isa, args, r, tamed, keys);
                           });
}

}  // namespace moed::fast
