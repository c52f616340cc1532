// What every backend asks of weights and limits before it takes them.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/core/tensor_view.h"

namespace moed {

// "float32[2, 3]".
std::string DescribeView(const ConstTensorView& view);

// float32, bfloat16 or float16.
bool IsWeightType(DType dtype);

// "weights", "KV cache", "activations", "exchange buffers" or "workspace".
const char* MemoryKindName(MemoryKind kind);

// Rows and columns of stacked linear parts.
struct LinearShape {
  int64_t out_features = 0;
  int64_t in_features = 0;
};

// INVALID_ARGUMENT, naming what was found, unless the parts are float matrices of one width.
absl::StatusOr<LinearShape> CheckLinearParts(absl::Span<const ConstTensorView> parts);

// INVALID_ARGUMENT unless w1 and w3 are float [ffn, hidden] and w2 is float [hidden, ffn]; ffn in
// out_features, hidden in in_features.
absl::StatusOr<LinearShape> CheckExpertParts(const ConstTensorView& w1, const ConstTensorView& w2,
                                             const ConstTensorView& w3);

// INVALID_ARGUMENT for a negative limit.
absl::Status CheckLimits(const WorkspaceLimits& limits);

}  // namespace moed
