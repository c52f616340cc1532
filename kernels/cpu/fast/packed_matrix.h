// A weight matrix in panels, as the register tiles read it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/buffer.h"
#include "kernels/core/thread_pool.h"
#include "kernels/cpu/simd/isa_kernels.h"

namespace moed::fast {

// Panel p holds isa.panel_columns outputs ("columns") for every k, line after line:
//   float32, or bfloat16 singly: [in_features, panel_columns];
//   bfloat16 in pairs:           [ceil(in_features / 2), panel_columns, 2], zero past an odd end.
// Columns past the last output are zero.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  PackedMatrix(Buffer buffer, DType dtype, int64_t in_features, int64_t num_panels,
               int64_t line_bytes, int64_t k_per_line)
      : buffer_(std::move(buffer)),
        dtype_(dtype),
        in_features_(in_features),
        num_panels_(num_panels),
        line_bytes_(line_bytes),
        k_per_line_(k_per_line) {}

  DType dtype() const { return dtype_; }
  int64_t in_features() const { return in_features_; }
  int64_t num_panels() const { return num_panels_; }
  int64_t bytes() const { return buffer_.bytes(); }
  // The panel's weights from k on; k is a multiple of two.
  const void* panel(int64_t panel, int64_t k) const {
    const int64_t lines = (in_features_ + k_per_line_ - 1) / k_per_line_;
    return static_cast<const std::byte*>(buffer_.data()) +
           (panel * lines + k / k_per_line_) * line_bytes_;
  }

 private:
  Buffer buffer_;
  DType dtype_ = DType::kFloat32;
  int64_t in_features_ = 0;
  int64_t num_panels_ = 0;
  int64_t line_bytes_ = 0;
  int64_t k_per_line_ = 1;
};

// A row of a host tensor; null: no such column.
struct WeightRow {
  const ConstTensorView* tensor = nullptr;
  int64_t row = 0;
};

// Packs in parallel; row_of(panel, column) says what a column holds and is called by many threads.
absl::StatusOr<PackedMatrix> PackMatrix(
    const IsaKernels& isa, DType dtype, int64_t in_features, int64_t num_panels, ThreadPool& pool,
    absl::FunctionRef<absl::StatusOr<Buffer>(int64_t bytes)> allocate,
    absl::FunctionRef<WeightRow(int64_t panel, int64_t column)> row_of);

class PackedLinear final : public LinearWeight {
 public:
  PackedLinear(PackedMatrix matrix, int64_t out_features)
      : matrix_(std::move(matrix)), out_features_(out_features) {}
  int64_t in_features() const override { return matrix_.in_features(); }
  int64_t out_features() const override { return out_features_; }
  int64_t bytes() const override { return matrix_.bytes(); }
  const PackedMatrix& matrix() const { return matrix_; }

 private:
  PackedMatrix matrix_;
  int64_t out_features_;
};

// Each panel of gate_up holds in its first half gate columns, in its second the up columns of the
// same places, so that one tile gives both factors of SwiGLU.
class PackedExpert final : public ExpertWeight {
 public:
  PackedExpert(PackedMatrix gate_up, PackedMatrix down)
      : gate_up_(std::move(gate_up)), down_(std::move(down)) {}
  int64_t bytes() const override { return gate_up_.bytes() + down_.bytes(); }
  int64_t hidden() const { return gate_up_.in_features(); }
  int64_t ffn() const { return down_.in_features(); }
  const PackedMatrix& gate_up() const { return gate_up_; }
  const PackedMatrix& down() const { return down_; }

 private:
  PackedMatrix gate_up_;
  PackedMatrix down_;
};

}  // namespace moed::fast
