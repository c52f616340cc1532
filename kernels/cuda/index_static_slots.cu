// The place of each pair's contribution in the gather strategy's answer.
//
// Shapes: IndexStaticSlotsParams. Grid and block: 256 threads, a pair each, which looks at the
// choices before it in its row. Shared memory: none.
#include "kernels/cuda/index_static_slots.h"

#include "kernels/cuda/device.cuh"

namespace moed::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) IndexStaticSlotsKernel(IndexStaticSlotsParams params) {
  const int64_t pair = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (pair >= params.num_tokens * params.top_k) return;
  int32_t& place = params.contribution_index[pair];
  const int32_t expert = params.topk_ids[pair];
  if (expert < 0) {
    place = -1;
    return;
  }
  const int32_t rank = params.rank_of_expert[expert];
  const int64_t row = static_cast<uint32_t>(pair) / static_cast<uint32_t>(params.top_k);
  int64_t slot = 0;
  for (int64_t earlier = row * params.top_k; earlier < pair; ++earlier) {
    const int32_t other = params.topk_ids[earlier];
    if (other >= 0 && params.rank_of_expert[other] == rank) ++slot;
  }
  place = static_cast<int32_t>((rank * params.padded_rows + row) * params.slots_per_row + slot);
}

}  // namespace

LaunchError LaunchIndexStaticSlots(const LaunchContext& context,
                                   const IndexStaticSlotsParams& params) {
  const dim3 grid(static_cast<unsigned>(BlocksFor(params.num_tokens * params.top_k, kThreads)));
  return MOED_LAUNCH(context, IndexStaticSlotsKernel, grid, dim3(kThreads), 0, params);
}

}  // namespace moed::cuda
