// Gathers and scatters an expert's rows, and its gate: one element a thread, all bound by memory,
// beside two products of the same rows that cost hundreds of times as much.
//
//   grid  (rows, pieces of 256 elements), block 256; no shared memory
#include "kernels/cuda/expert_rows.h"

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/gemm_params.h"
#include "kernels/cuda/gemm_tile.cuh"

namespace moed::cuda {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ int64_t Column() {
  return static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    GatherPairs(ExpertRowsParams rows, const T* x, int64_t width, T* packed) {
  const int64_t i = rows.first + blockIdx.x;
  const int64_t column = Column();
  if (column >= width) return;
  packed[blockIdx.x * width + column] =
      i < *rows.num_pairs ? x[rows.index[i] * width + column] : T{};
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    ScatterPairs(ExpertRowsParams rows, const T* packed, int64_t width, T* out) {
  const int64_t i = rows.first + blockIdx.x;
  const int64_t column = Column();
  if (column >= width || i >= *rows.num_pairs) return;
  out[rows.index[i] * width + column] = packed[blockIdx.x * width + column];
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    GateRows(const float* gate_up, int64_t gate_up_width, int64_t ffn, T* inner) {
  const int64_t column = Column();
  if (column >= ffn) return;
  const float* gate = gate_up + blockIdx.x * gate_up_width + InterleavedRow(column, false);
  inner[blockIdx.x * ffn + column] = FromFloat<T>(SwiGlu(gate[0], gate[kGateGroup]));
}

dim3 GridFor(int64_t rows, int64_t width) {
  return {static_cast<unsigned>(rows), static_cast<unsigned>(BlocksFor(width, kThreads)), 1U};
}

template <typename T>
LaunchError Gather(const LaunchContext& context, const ExpertRowsParams& rows, const void* x,
                   int64_t width, void* packed) {
  return MOED_LAUNCH(context, (GatherPairs<T>), GridFor(rows.num_rows, width), dim3(kThreads), 0,
                     rows, static_cast<const T*>(x), width, static_cast<T*>(packed));
}

template <typename T>
LaunchError Scatter(const LaunchContext& context, const ExpertRowsParams& rows, const void* packed,
                    int64_t width, void* out) {
  return MOED_LAUNCH(context, (ScatterPairs<T>), GridFor(rows.num_rows, width), dim3(kThreads), 0,
                     rows, static_cast<const T*>(packed), width, static_cast<T*>(out));
}

template <typename T>
LaunchError Gate(const LaunchContext& context, const float* gate_up, int64_t num_rows, int64_t ffn,
                 void* inner) {
  return MOED_LAUNCH(context, (GateRows<T>), GridFor(num_rows, ffn), dim3(kThreads), 0, gate_up,
                     InterleavedRows(ffn), ffn, static_cast<T*>(inner));
}

}  // namespace

LaunchError LaunchGatherPairs(const LaunchContext& context, const ExpertRowsParams& rows,
                              const void* x, int64_t width, void* packed) {
  return rows.is_bfloat16 ? Gather<BFloat16>(context, rows, x, width, packed)
                          : Gather<float>(context, rows, x, width, packed);
}

LaunchError LaunchScatterPairs(const LaunchContext& context, const ExpertRowsParams& rows,
                               const void* packed, int64_t width, void* out) {
  return rows.is_bfloat16 ? Scatter<BFloat16>(context, rows, packed, width, out)
                          : Scatter<float>(context, rows, packed, width, out);
}

LaunchError LaunchSwiGlu(const LaunchContext& context, const float* gate_up, int64_t num_rows,
                         int64_t ffn, bool is_bfloat16, void* inner) {
  return is_bfloat16 ? Gate<BFloat16>(context, gate_up, num_rows, ffn, inner)
                     : Gate<float>(context, gate_up, num_rows, ffn, inner);
}

}  // namespace moed::cuda
