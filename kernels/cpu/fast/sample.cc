#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/core/check.h"
#include "kernels/cpu/adjust_logits.h"
#include "kernels/cpu/fast/draw.h"
#include "kernels/cpu/fast/fast_ops.h"
#include "kernels/cpu/fast/log_softmax.h"

namespace moed::fast {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Step 4 of SamplingRow. `kept` is scratch memory [vocab]. Returns whether any token was listed.
bool RemoveTokens(const SamplingRow& row, int64_t vocab, float* logits, float* kept) {
  const absl::Span<const int32_t> allowed = row.allowed_token_ids;
  if (!allowed.empty()) {
    MOED_CHECK(static_cast<int64_t>(allowed.size()) <= vocab,
               "Sample: more allowed tokens than the vocabulary has");
    for (size_t i = 0; i < allowed.size(); ++i) {
      MOED_CHECK(allowed[i] >= 0 && allowed[i] < vocab,
                 "Sample: an allowed token id is out of range");
      kept[i] = logits[allowed[i]];
    }
    std::fill_n(logits, vocab, -kInfinity);
    for (size_t i = 0; i < allowed.size(); ++i) logits[allowed[i]] = kept[i];
  }
  for (const int32_t id : row.suppressed_token_ids) {
    MOED_CHECK(id >= 0 && id < vocab, "Sample: a suppressed token id is out of range");
    logits[id] = -kInfinity;
  }
  return !allowed.empty() || !row.suppressed_token_ids.empty();
}

// Where no token has a chance: the lowest allowed id that is not suppressed, else the lowest
// allowed id, else 0. `marks` is scratch memory [vocab].
int32_t LowestAllowed(const SamplingRow& row, int64_t vocab, uint64_t* marks) {
  constexpr uint64_t kAllowed = 1;
  constexpr uint64_t kSuppressed = 2;
  std::fill_n(marks, vocab, row.allowed_token_ids.empty() ? kAllowed : 0);
  for (const int32_t id : row.allowed_token_ids) marks[id] |= kAllowed;
  for (const int32_t id : row.suppressed_token_ids) marks[id] |= kSuppressed;
  for (const uint64_t wanted : {kAllowed, kAllowed | kSuppressed}) {
    const uint64_t* found = std::find(marks, marks + vocab, wanted);
    if (found != marks + vocab) return static_cast<int32_t>(found - marks);
  }
  return 0;
}

int32_t LowestIdOf(const float* logits, int64_t vocab, float value) {
  return static_cast<int32_t>(std::find(logits, logits + vocab, value) - logits);
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
  const bool adjusted = AdjustLogits(row, vocab, tamed);
  const bool removed = RemoveTokens(row, vocab, tamed, reinterpret_cast<float*>(keys));
  const float largest = adjusted || removed ? isa.maximum(tamed, vocab) : softmax.largest;
  int32_t token = 0;
  if (largest == -kInfinity) {
    token = LowestAllowed(row, vocab, keys);
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
