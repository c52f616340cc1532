// Router logits in float32, the top_k of each row, and the softmax over the chosen.
//
// Shapes: RouteParams. Grid: one block for each row, or for eight rows where there are more than
// two for each multiprocessor; a block of many rows reads the weights once for all of them. Block:
// 256 threads. Each warp takes a slice of hidden: its lanes hold partial sums of eight experts,
// which are added over the lanes, then over the warps, always in the same order, so that a row's
// bits do not depend on the rows beside it. Further experts take passes of their own. Four
// neighbours of x and of the weights are read at a time where rows allow it, else one.
// Shared memory: 8 warps * 8 experts * rows partial sums, then (experts + top_k) * rows floats.
//
// A choice's place is the number of experts that come before it: those with a larger logit, and
// those of a lower id with the same one; each thread finds it for an expert of a row. The weights
// are summed in the order of the choices.
//
// Cost: one row reads the weights, 128 KiB for 8 experts of hidden 4096, through one
// multiprocessor: one or two microseconds, and sixteen times that for 128 experts.
#include "kernels/cuda/route.h"

#include <cmath>

#include "kernels/cuda/vector.cuh"
#include "kernels/cuda/warp.cuh"

namespace moed::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kExperts = 8;  // of a pass
constexpr int kManyRows = 8;
constexpr int kWide = 4;

// values[i] of all lanes are added for each i, in WarpSum's order but with fewer shuffles: at each
// distance a lane hands half of its sums to its partner and goes on with the other half, as long as
// it has more than one. The sums end up in the first kLeft of `values`: those of number
// FirstOf(lane) and following.
template <int kCount>
struct LaneSums {
  static constexpr int kLeft = kCount > kWarpSize ? kCount / kWarpSize : 1;

  // Whether this lane's sums are held by no lower lane.
  static __device__ __forceinline__ bool IsOwner(int lane) {
    constexpr int kCopies = kCount < kWarpSize ? kWarpSize / kCount : 1;
    return lane % kCopies == 0;
  }

  static __device__ __forceinline__ int FirstOf(int lane) {
    int first = 0;
    int count = kCount;
#pragma unroll
    for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
      if (count > 1) {
        count /= 2;
        if ((lane & distance) != 0) first += count;
      }
    }
    return first;
  }

  static __device__ __forceinline__ void Add(float (&values)[kCount], int lane) {
    int count = kCount;
#pragma unroll
    for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
      if (count == 1) {
        values[0] += __shfl_xor_sync(kAllLanes, values[0], distance);
        continue;
      }
      count /= 2;
      const bool upper = (lane & distance) != 0;
#pragma unroll
      for (int i = 0; i < kCount / 2; ++i) {
        if (i >= count) break;
        const float given = upper ? values[i] : values[i + count];
        const float kept = upper ? values[i + count] : values[i];
        values[i] = kept + __shfl_xor_sync(kAllLanes, given, distance);
      }
    }
  }
};

// The logits of the block's rows go to logits [kRows][num_experts] in shared memory.
template <typename T, int kRows, int kWidth>
__device__ __forceinline__ void ComputeLogits(const RouteParams& params, int64_t first_row,
                                              float (*partial)[kRows * kExperts], float* logits) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  // A row past the last is the last again, an expert too; their sums are not kept.
  const T* x[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = first_row + r < params.num_tokens ? first_row + r : params.num_tokens - 1;
    x[r] = static_cast<const T*>(params.x) + row * params.hidden;
  }
  for (int first_expert = 0; first_expert < params.num_experts; first_expert += kExperts) {
    float sums[kRows * kExperts] = {};
    for (int64_t i = static_cast<int64_t>(threadIdx.x) * kWidth; i < params.hidden;
         i += kThreads * kWidth) {
      Vector<float, kWidth> weights[kExperts];
#pragma unroll
      for (int e = 0; e < kExperts; ++e) {
        const int64_t expert =
            first_expert + e < params.num_experts ? first_expert + e : params.num_experts - 1;
        weights[e] = LoadVector<kWidth>(params.weight + expert * params.hidden + i);
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const Vector<T, kWidth> values = LoadVector<kWidth>(x[r] + i);
#pragma unroll
        for (int e = 0; e < kExperts; ++e) {
#pragma unroll
          for (int j = 0; j < kWidth; ++j) {
            float& sum = sums[r * kExperts + e];
            sum = fmaf(ToFloat(values.at[j]), weights[e].at[j], sum);
          }
        }
      }
    }
    using Sums = LaneSums<kRows * kExperts>;
    Sums::Add(sums, lane);
    if (Sums::IsOwner(lane)) {
#pragma unroll
      for (int i = 0; i < Sums::kLeft; ++i) partial[warp][Sums::FirstOf(lane) + i] = sums[i];
    }
    __syncthreads();
    const int at = static_cast<int>(threadIdx.x);
    const int expert = first_expert + at % kExperts;
    if (at < kRows * kExperts && expert < params.num_experts) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) sum += partial[w][at];
      logits[at / kExperts * params.num_experts + expert] = isnan(sum) ? -INFINITY : sum;
    }
    __syncthreads();
  }
}

// How many experts of the row come before this one.
__device__ __forceinline__ int PlaceOf(const float* logits, int num_experts, int expert) {
  const float own = logits[expert];
  int place = 0;
  for (int e = 0; e < num_experts; ++e) {
    const float other = logits[e];
    place += other > own || (other == own && e < expert) ? 1 : 0;
  }
  return place;
}

template <typename T, int kRows, int kWidth>
__global__ void __launch_bounds__(kThreads, 2) RouteKernel(RouteParams params) {
  __shared__ float partial[kWarps][kRows * kExperts];
  MOED_DYNAMIC_SHARED(float, shared);
  float* logits = shared;                               // [kRows][num_experts]
  float* chosen = shared + kRows * params.num_experts;  // [kRows][top_k]
  const auto first_row = static_cast<int64_t>(blockIdx.x) * kRows;
  ComputeLogits<T, kRows, kWidth>(params, first_row, partial, logits);

  const int64_t rows_left = params.num_tokens - first_row;
  const int num_rows = rows_left < kRows ? static_cast<int>(rows_left) : kRows;
  const auto choices_of = [&](int row) {
    return params.num_choices == nullptr ? params.top_k : params.num_choices[first_row + row];
  };
  for (int i = static_cast<int>(threadIdx.x); i < num_rows * params.num_experts; i += kThreads) {
    const int row = i / params.num_experts;
    const int expert = i % params.num_experts;
    const float* row_logits = logits + row * params.num_experts;
    const int place = PlaceOf(row_logits, params.num_experts, expert);
    if (place >= choices_of(row)) continue;
    params.topk_ids[(first_row + row) * params.top_k + place] = expert;
    chosen[row * params.top_k + place] = row_logits[expert];
  }
  __syncthreads();
  // The logits have served: their places take what the softmax sums.
  float* terms = logits;
  for (int i = static_cast<int>(threadIdx.x); i < num_rows * params.top_k; i += kThreads) {
    const int row = i / params.top_k;
    const int choice = i % params.top_k;
    if (choice >= choices_of(row)) continue;
    const float largest = chosen[row * params.top_k];
    const float logit = chosen[i];
    terms[row * params.num_experts + choice] = logit == largest ? 1.0F : expf(logit - largest);
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < num_rows * params.top_k; i += kThreads) {
    const int row = i / params.top_k;
    const int choice = i % params.top_k;
    const int num_choices = choices_of(row);
    const int64_t at = (first_row + row) * params.top_k + choice;
    if (choice >= num_choices) {
      params.topk_ids[at] = -1;
      params.topk_weights[at] = 0;
      continue;
    }
    const float* row_terms = terms + row * params.num_experts;
    float sum = 0;
    for (int c = 0; c < num_choices; ++c) sum += row_terms[c];
    params.topk_weights[at] = row_terms[choice] / sum;
  }
}

template <typename T, int kRows, int kWidth>
LaunchError Launch(const LaunchContext& context, const RouteParams& params) {
  const dim3 grid(static_cast<unsigned>(BlocksFor(params.num_tokens, kRows)));
  const size_t shared_bytes = static_cast<size_t>(kRows) *
                              static_cast<size_t>(params.num_experts + params.top_k) *
                              sizeof(float);
  return MOED_LAUNCH(context, (RouteKernel<T, kRows, kWidth>), grid, dim3(kThreads), shared_bytes,
                     params);
}

template <typename T>
LaunchError Launch(const LaunchContext& context, const RouteParams& params) {
  const bool many = params.num_tokens > 2 * int64_t{context.num_sms} &&
                    params.num_experts * kManyRows <= kMaxRoutedExperts;
  const bool wide = params.hidden % kWide == 0 && Aligned(kWide * sizeof(T), params.x) &&
                    Aligned(kWide * sizeof(float), params.weight);
  if (many) {
    return wide ? Launch<T, kManyRows, kWide>(context, params)
                : Launch<T, kManyRows, 1>(context, params);
  }
  return wide ? Launch<T, 1, kWide>(context, params) : Launch<T, 1, 1>(context, params);
}

}  // namespace

LaunchError LaunchRoute(const LaunchContext& context, const RouteParams& params) {
  return params.act == DType::kFloat32 ? Launch<float>(context, params)
                                       : Launch<BFloat16>(context, params);
}

}  // namespace moed::cuda
