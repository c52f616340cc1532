#include "kernels/cuda/packed_weights.h"

#include <algorithm>
#include <cstddef>

#include "kernels/core/status.h"
#include "kernels/cuda/gemm_params.h"
#include "kernels/cuda/pack_rows.h"

namespace moed::cuda {
namespace {

// What a part of a source passes through on the device where it is converted or interleaved.
constexpr int64_t kStagingBytes = int64_t{32} << 20;

// Enqueues a packed matrix's parts. Everything is allocated before anything is enqueued, so that
// nothing is released under a kernel.
class RowPacker {
 public:
  RowPacker(CudaStream& stream, DType act) : stream_(stream), act_(act) {}

  // Room for any of the sources.
  absl::Status Reserve(CudaMemory& memory, absl::Span<const ConstTensorView> sources) {
    int64_t bytes = 0;
    for (const ConstTensorView& source : sources) {
      if (source.empty()) continue;
      bytes = std::max(bytes, std::clamp(kStagingBytes, RowBytes(source), source.bytes()));
    }
    MOED_ASSIGN_OR_RETURN(staging_, memory.Allocate(MemoryKind::kWorkspace, bytes));
    return absl::OkStatus();
  }

  // The source's rows into the packed matrix `to`; kPlain from its row `first_row` on.
  void Pack(const ConstTensorView& source, void* to, PackedPlace place, int64_t first_row) {
    if (source.empty()) return;
    const int64_t width = source.dim(1);
    const int64_t row_bytes = RowBytes(source);
    if (source.dtype() == act_ && place == PackedPlace::kPlain) {
      Copy(static_cast<std::byte*>(to) + first_row * row_bytes, source.raw(), source.bytes());
      return;
    }
    const int64_t rows_at_once = staging_.bytes() / row_bytes;
    for (int64_t row = 0; row < source.dim(0); row += rows_at_once) {
      const int64_t num_rows = std::min(rows_at_once, source.dim(0) - row);
      Copy(staging_.data(), static_cast<const std::byte*>(source.raw()) + row * row_bytes,
           num_rows * row_bytes);
      stream_.Note(LaunchPackRows(stream_.context(), {.from = staging_.data(),
                                                      .from_dtype = source.dtype(),
                                                      .to = to,
                                                      .is_bfloat16 = act_ == DType::kBFloat16,
                                                      .first_row = first_row + row,
                                                      .num_rows = num_rows,
                                                      .width = width,
                                                      .place = place}),
                   "packing a weight");
    }
  }

 private:
  static int64_t RowBytes(const ConstTensorView& source) {
    return source.dim(1) * DTypeBytes(source.dtype());
  }

  void Copy(void* to, const void* from, int64_t bytes) {
    stream_.Note(stream_.api().copy(to, from, static_cast<size_t>(bytes), stream_.handle()),
                 "copying a weight to the device");
  }

  CudaStream& stream_;
  const DType act_;
  Buffer staging_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<PackedLinear>> PackLinearWeight(
    CudaMemory& memory, CudaStream& stream, DType act, absl::Span<const ConstTensorView> parts) {
  MOED_ASSIGN_OR_RETURN(const LinearShape shape, CheckLinearParts(parts));
  MOED_ASSIGN_OR_RETURN(Buffer packed,
                        memory.Allocate(MemoryKind::kWeights,
                                        shape.out_features * shape.in_features * DTypeBytes(act)));
  RowPacker packer(stream, act);
  MOED_RETURN_IF_ERROR(packer.Reserve(memory, parts));
  int64_t first_row = 0;
  for (const ConstTensorView& part : parts) {
    packer.Pack(part, packed.data(), PackedPlace::kPlain, first_row);
    first_row += part.dim(0);
  }
  MOED_RETURN_IF_ERROR(stream.Synchronize());
  return std::make_unique<PackedLinear>(std::move(packed), shape, act);
}

absl::StatusOr<std::unique_ptr<PackedExpert>> PackExpertWeight(CudaMemory& memory,
                                                               CudaStream& stream, DType act,
                                                               ConstTensorView w1,
                                                               ConstTensorView w2,
                                                               ConstTensorView w3) {
  MOED_ASSIGN_OR_RETURN(const LinearShape shape, CheckExpertParts(w1, w2, w3));
  const int64_t ffn = shape.out_features;
  const int64_t hidden = shape.in_features;
  // Zeroed, and so are the rows that fill the last group.
  MOED_ASSIGN_OR_RETURN(
      Buffer gate_up,
      memory.Allocate(MemoryKind::kWeights, InterleavedRows(ffn) * hidden * DTypeBytes(act)));
  MOED_ASSIGN_OR_RETURN(Buffer down,
                        memory.Allocate(MemoryKind::kWeights, hidden * ffn * DTypeBytes(act)));
  RowPacker packer(stream, act);
  MOED_RETURN_IF_ERROR(packer.Reserve(memory, {w1, w2, w3}));
  packer.Pack(w1, gate_up.data(), PackedPlace::kGate, 0);
  packer.Pack(w3, gate_up.data(), PackedPlace::kUp, 0);
  packer.Pack(w2, down.data(), PackedPlace::kPlain, 0);
  MOED_RETURN_IF_ERROR(stream.Synchronize());
  return std::make_unique<PackedExpert>(std::move(gate_up), std::move(down), ffn, hidden, act);
}

}  // namespace moed::cuda
