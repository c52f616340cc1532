#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/fast/fast_ops.h"

namespace moed::fast {

void RmsNorm(const Context& context, const RmsNormArgs& args) {
  if (args.out.empty()) return;
  const int64_t num_rows = args.out.dim(0);
  const int64_t hidden = args.x.dim(1);
  const bool all_rows = args.row_index.rank() == 0;
  const int32_t* row_index = all_rows ? nullptr : args.row_index.data<int32_t>();
  const float* x = args.x.data<float>();
  const float* weight = args.weight.data<float>();
  const bool narrow = context.act == DType::kBFloat16;
  MOED_CHECK(!narrow || hidden * 4 <= context.workspace.slots.slot_bytes(),
             "RmsNorm: hidden exceeds the workspace's limits");
  context.pool.ParallelFor(
      num_rows, Grain(context.pool, num_rows, hidden / 4), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const int64_t source = all_rows ? r : row_index[r];
          MOED_CHECK(source >= 0 && source < args.x.dim(0), "RmsNorm: a row index is out of range");
          const float* row = x + source * hidden;
          if (!narrow) {
            context.isa.rms_norm(row, weight, args.epsilon, hidden,
                                 args.out.data<float>() + r * hidden);
            continue;
          }
          const ScratchSlots::Lease lease(context.workspace.slots);
          float* normed = lease.data<float>();
          context.isa.rms_norm(row, weight, args.epsilon, hidden, normed);
          context.isa.narrow(normed, hidden, &args.out.data<BFloat16>()[r * hidden].bits);
        }
      });
}

}  // namespace moed::fast
