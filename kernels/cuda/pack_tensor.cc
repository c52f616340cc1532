#include "kernels/cuda/pack_tensor.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/strings/str_cat.h"
#include "kernels/check_weights.h"
#include "kernels/core/checked_math.h"
#include "kernels/core/status.h"
#include "kernels/cuda/row_ops.h"

namespace moed::cuda {
namespace {

constexpr char kOperation[] = "PackTensor";

// The source may lie anywhere and at any address: each piece goes to aligned device memory first.
absl::Status ConvertByPieces(CudaMemory& memory, CudaStream& stream, ConstTensorView source,
                             TensorView target, int64_t piece_bytes) {
  const int64_t count = source.num_elements();
  const int64_t element_bytes = DTypeBytes(source.dtype());
  const int64_t piece_elements = std::min(count, piece_bytes / element_bytes);
  MOED_ASSIGN_OR_RETURN(const Buffer piece,
                        memory.Allocate(MemoryKind::kWorkspace, piece_elements * element_bytes));
  for (int64_t at = 0; at < count; at += piece_elements) {
    const int64_t size = std::min(piece_elements, count - at);
    const auto* from = static_cast<const std::byte*>(source.raw()) + at * element_bytes;
    stream.Note(stream.api().copy(piece.data(), from, static_cast<size_t>(size * element_bytes),
                                  stream.handle()),
                kOperation);
    Convert(stream, piece.View(source.dtype(), {size}), target.Rows(at, size));
  }
  return stream.Synchronize();
}

}  // namespace

absl::StatusOr<Buffer> PackTensor(CudaMemory& memory, CudaStream& stream, ConstTensorView source,
                                  DType dtype, int64_t piece_bytes) {
  if (!IsWeightType(source.dtype()) || (dtype != DType::kFloat32 && dtype != DType::kBFloat16)) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot pack a tensor ", DescribeView(source), " as ", DTypeName(dtype)));
  }
  const std::optional<int64_t> bytes = CheckedMul(source.num_elements(), DTypeBytes(dtype));
  if (!bytes.has_value()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot pack ", source.num_elements(), " elements"));
  }
  MOED_ASSIGN_OR_RETURN(Buffer buffer, memory.Allocate(MemoryKind::kWeights, *bytes));
  if (*bytes == 0) return buffer;
  if (source.dtype() != dtype) {
    const TensorView target = buffer.View(dtype, {source.num_elements()});
    MOED_RETURN_IF_ERROR(ConvertByPieces(memory, stream, source, target, piece_bytes));
    return buffer;
  }
  stream.Note(
      stream.api().copy(buffer.data(), source.raw(), static_cast<size_t>(*bytes), stream.handle()),
      kOperation);
  MOED_RETURN_IF_ERROR(stream.Synchronize());
  return buffer;
}

}  // namespace moed::cuda
