// Attention over a bfloat16 cache, on tensor cores: attention_kernel.cuh with the rows of
// attention_mma.cuh. head_dim is rounded up to 16, 32, 64, 128 or 256.
#include "kernels/cuda/attention_kernel.cuh"
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/paged_attention.h"

namespace moed::cuda {
namespace {

template <int kDim>
using SplitShape = AttentionShape<MmaRows<kDim>, true>;

template <int kDim>
__global__ void __launch_bounds__(SplitShape<kDim>::kThreads, SplitShape<kDim>::kMinBlocks)
    SplitAttentionBf16Kernel(const PagedAttentionParams params) {
  RunAttention<SplitShape<kDim>>(params);
}

template <int kDim>
LaunchError LaunchSplit(const LaunchContext& context, const PagedAttentionParams& params) {
  using Shape = SplitShape<kDim>;
  return MOED_LAUNCH(context, (SplitAttentionBf16Kernel<kDim>),
                     AttentionGrid<Shape>(context, params), dim3(Shape::kThreads),
                     static_cast<size_t>(Shape::kSharedBytes), params);
}

template <int kDim>
using WholeShape = AttentionShape<MmaRows<kDim>, false>;

template <int kDim>
__global__ void __launch_bounds__(WholeShape<kDim>::kThreads, WholeShape<kDim>::kMinBlocks)
    WholeAttentionBf16Kernel(const PagedAttentionParams params) {
  RunAttention<WholeShape<kDim>>(params);
}

template <int kDim>
LaunchError LaunchWhole(const LaunchContext& context, const PagedAttentionParams& params) {
  using Shape = WholeShape<kDim>;
  return MOED_LAUNCH(context, (WholeAttentionBf16Kernel<kDim>),
                     AttentionGrid<Shape>(context, params), dim3(Shape::kThreads),
                     static_cast<size_t>(Shape::kSharedBytes), params);
}

}  // namespace

LaunchError LaunchSplitAttentionBf16(const LaunchContext& context,
                                     const PagedAttentionParams& params) {
  if (params.head_dim <= 16) return LaunchSplit<16>(context, params);
  if (params.head_dim <= 32) return LaunchSplit<32>(context, params);
  if (params.head_dim <= 64) return LaunchSplit<64>(context, params);
  if (params.head_dim <= 128) return LaunchSplit<128>(context, params);
  return LaunchSplit<256>(context, params);
}

LaunchError LaunchWholeAttentionBf16(const LaunchContext& context,
                                     const PagedAttentionParams& params) {
  if (params.head_dim <= 16) return LaunchWhole<16>(context, params);
  if (params.head_dim <= 32) return LaunchWhole<32>(context, params);
  if (params.head_dim <= 64) return LaunchWhole<64>(context, params);
  if (params.head_dim <= 128) return LaunchWhole<128>(context, params);
  return LaunchWhole<256>(context, params);
}

}  // namespace moed::cuda
