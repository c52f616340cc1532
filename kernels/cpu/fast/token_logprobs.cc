#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/fast/fast_ops.h"
#include "kernels/cpu/fast/log_softmax.h"

namespace moed::fast {

void TokenLogprobs(const Context& context, const TokenLogprobsArgs& args) {
  const int64_t num_rows = args.logits.dim(0);
  const int64_t vocab = args.logits.dim(1);
  if (num_rows == 0) return;
  MOED_CHECK(vocab > 0, "TokenLogprobs: the vocabulary is empty");
  MOED_CHECK(vocab * int64_t{sizeof(float)} <= context.workspace.slots.slot_bytes(),
             "TokenLogprobs: vocab exceeds the workspace's limits");
  context.pool.ParallelFor(
      num_rows, Grain(context.pool, num_rows, vocab * 2), [&](int64_t begin, int64_t end) {
        const ScratchSlots::Lease lease(context.workspace.slots);
        float* tamed = lease.data<float>();
        for (int64_t r = begin; r < end; ++r) {
          const int32_t target = args.targets.data<int32_t>()[r];
          MOED_CHECK(target >= 0 && target < vocab, "TokenLogprobs: a target is out of range");
          const LogSoftmax softmax =
              TameRow(context.isa, args.logits.data<float>() + r * vocab, vocab, tamed);
          args.logprobs.data<float>()[r] = softmax.Of(tamed[target]);
          WriteTop(softmax, tamed, vocab, args.top_ids.data<int32_t>() + r * kMaxLogprobs,
                   args.top_logprobs.data<float>() + r * kMaxLogprobs);
        }
      });
}

}  // namespace moed::fast
