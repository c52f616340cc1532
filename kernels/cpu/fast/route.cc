#include <cstddef>
#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/choose_top_k.h"
#include "kernels/cpu/fast/fast_ops.h"

namespace moed::fast {

void Route(const Context& context, const RouteArgs& args) {
  if (args.topk_ids.empty()) return;
  const int64_t num_rows = args.x.dim(0);
  const int64_t hidden = args.x.dim(1);
  const int64_t num_experts = args.weight.dim(0);
  const int64_t row_bytes = hidden * DTypeBytes(context.act);
  MOED_CHECK(num_experts * 4 <= context.workspace.slots.slot_bytes(),
             "Route: num_experts exceeds the workspace's limits");
  context.pool.ParallelFor(num_rows, Grain(context.pool, num_rows, hidden * num_experts / 16),
                           [&](int64_t begin, int64_t end) {
                             const ScratchSlots::Lease lease(context.workspace.slots);
                             float* logits = lease.data<float>();
                             for (int64_t t = begin; t < end; ++t) {
                               context.isa.router_logits(
                                   static_cast<const std::byte*>(args.x.raw()) + t * row_bytes,
                                   context.act == DType::kBFloat16, args.weight.data<float>(),
                                   num_experts, hidden, logits);
                               ChooseOfRow(args, t, logits);
                             }
                           });
}

}  // namespace moed::fast
