#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/reference/log_softmax.h"
#include "kernels/cpu/reference/reference_ops.h"

namespace moed::reference {

void TokenLogprobs(const TokenLogprobsArgs& args, Scratch& scratch) {
  const int64_t vocab = args.logits.dim(1);
  const int64_t num_rows = args.logits.dim(0);
  MOED_CHECK(num_rows == 0 || vocab <= static_cast<int64_t>(scratch.candidates.capacity()),
             "TokenLogprobs: vocab exceeds the workspace's limits");
  for (int64_t r = 0; r < num_rows; ++r) {
    const float* logits = args.logits.data<float>() + r * vocab;
    const int32_t target = args.targets.data<int32_t>()[r];
    MOED_CHECK(target >= 0 && target < vocab, "TokenLogprobs: a target is out of range");
    const LogSoftmax softmax(logits, vocab, scratch.candidates);
    args.logprobs.data<float>()[r] = softmax.Of(logits[target]);
    softmax.WriteTop(args.top_ids.data<int32_t>() + r * kMaxLogprobs,
                     args.top_logprobs.data<float>() + r * kMaxLogprobs);
  }
}

}  // namespace moed::reference
