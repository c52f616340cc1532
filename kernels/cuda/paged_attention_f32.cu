// Attention over a float32 cache: attention_kernel.cuh with the rows of attention_fma.cuh. head_dim
// is rounded up to 32, 64, 128 or 256.
#include "kernels/cuda/attention_fma.cuh"
#include "kernels/cuda/attention_kernel.cuh"
#include "kernels/cuda/paged_attention.h"

namespace moed::cuda {
namespace {

template <int kDim>
using SplitShape = AttentionShape<FmaRows<kDim>, true>;

template <int kDim>
__global__ void __launch_bounds__(SplitShape<kDim>::kThreads, SplitShape<kDim>::kMinBlocks)
    SplitAttentionF32Kernel(const PagedAttentionParams params) {
  RunAttention<SplitShape<kDim>>(params);
}

template <int kDim>
LaunchError LaunchSplit(const LaunchContext& context, const PagedAttentionParams& params) {
  using Shape = SplitShape<kDim>;
  return MOED_LAUNCH(context, (SplitAttentionF32Kernel<kDim>),
                     AttentionGrid<Shape>(context, params), dim3(Shape::kThreads),
                     static_cast<size_t>(Shape::kSharedBytes), params);
}

template <int kDim>
using WholeShape = AttentionShape<FmaRows<kDim>, false>;

template <int kDim>
__global__ void __launch_bounds__(WholeShape<kDim>::kThreads, WholeShape<kDim>::kMinBlocks)
    WholeAttentionF32Kernel(const PagedAttentionParams params) {
  RunAttention<WholeShape<kDim>>(params);
}

template <int kDim>
LaunchError LaunchWhole(const LaunchContext& context, const PagedAttentionParams& params) {
  using Shape = WholeShape<kDim>;
  return MOED_LAUNCH(context, (WholeAttentionF32Kernel<kDim>),
                     AttentionGrid<Shape>(context, params), dim3(Shape::kThreads),
                     static_cast<size_t>(Shape::kSharedBytes), params);
}

}  // namespace

LaunchError LaunchSplitAttentionF32(const LaunchContext& context,
                                    const PagedAttentionParams& params) {
  if (params.head_dim <= 32) return LaunchSplit<32>(context, params);
  if (params.head_dim <= 64) return LaunchSplit<64>(context, params);
  if (params.head_dim <= 128) return LaunchSplit<128>(context, params);
  return LaunchSplit<256>(context, params);
}

LaunchError LaunchWholeAttentionF32(const LaunchContext& context,
                                    const PagedAttentionParams& params) {
  if (params.head_dim <= 32) return LaunchWhole<32>(context, params);
  if (params.head_dim <= 64) return LaunchWhole<64>(context, params);
  if (params.head_dim <= 128) return LaunchWhole<128>(context, params);
  return LaunchWhole<256>(context, params);
}

}  // namespace moed::cuda
