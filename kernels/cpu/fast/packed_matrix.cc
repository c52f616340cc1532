#include "kernels/cpu/fast/packed_matrix.h"

#include <algorithm>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/checked_math.h"
#include "kernels/core/float_types.h"
#include "kernels/core/status.h"
#include "kernels/cpu/convert.h"

namespace moed::fast {

absl::StatusOr<PackedMatrix> PackMatrix(
    const IsaKernels& isa, DType dtype, int64_t in_features, int64_t num_panels, ThreadPool& pool,
    absl::FunctionRef<absl::StatusOr<Buffer>(int64_t bytes)> allocate,
    absl::FunctionRef<WeightRow(int64_t panel, int64_t column)> row_of) {
  const bool paired = dtype == DType::kBFloat16 && isa.bf16_pairs;
  const int64_t k_per_line = paired ? 2 : 1;
  const int64_t line_bytes = isa.panel_columns * k_per_line * DTypeBytes(dtype);
  const int64_t lines = (in_features + k_per_line - 1) / k_per_line;
  const std::optional<int64_t> panel_bytes = CheckedMul(lines, line_bytes);
  const std::optional<int64_t> bytes = CheckedMul(num_panels, panel_bytes.value_or(-1));
  if (!panel_bytes.has_value() || !bytes.has_value()) {
    return absl::ResourceExhaustedError(absl::StrCat("a weight of ", num_panels * isa.panel_columns,
                                                     " x ", in_features, " is too large"));
  }
  MOED_ASSIGN_OR_RETURN(Buffer buffer, allocate(*bytes));
  auto* memory = static_cast<std::byte*>(buffer.data());

  // A piece of a row is read, then scattered over its column; short pieces keep the lines cached.
  constexpr int64_t kPiece = 256;
  const auto pack_panel = [&](int64_t panel) {
    float piece[kPiece];
    for (int64_t k = 0; k < in_features; k += kPiece) {
      const int64_t size = std::min(kPiece, in_features - k);
      for (int64_t column = 0; column < isa.panel_columns; ++column) {
        const WeightRow source = row_of(panel, column);
        if (source.tensor == nullptr) continue;
        ReadFloats(*source.tensor, source.row * in_features + k, size, piece);
        std::byte* base = memory + panel * *panel_bytes;
        if (dtype == DType::kFloat32) {
          float* to = reinterpret_cast<float*>(base) + k * isa.panel_columns + column;
          for (int64_t i = 0; i < size; ++i) to[i * isa.panel_columns] = piece[i];
          continue;
        }
        auto* to = reinterpret_cast<BFloat16*>(base) + k * isa.panel_columns + column * k_per_line;
        const int64_t stride = isa.panel_columns * k_per_line;
        for (int64_t i = 0; i < size; ++i) {
          to[i / k_per_line * stride + i % k_per_line] = ToBFloat16(piece[i]);
        }
      }
    }
  };
  pool.ParallelFor(num_panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) pack_panel(panel);
  });
  return PackedMatrix(std::move(buffer), dtype, in_features, num_panels, line_bytes, k_per_line);
}

}  // namespace moed::fast
