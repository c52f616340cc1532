// Where tensors come from: a checkpoint's files, or seeded numbers.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/core/buffer.h"
#include "kernels/core/tensor_view.h"

namespace moed {

// A tensor on loan. The view is valid while the object lives.
struct LoadedTensor {
  ConstTensorView view;
  Buffer storage;  // owns the memory; a mapping's release unmaps it
};

// Tensors by their Hugging Face names. Thread-safe: rank threads load at the same time.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // The tensor must have exactly `shape` and a float dtype; the error names file, tensor, expected
  // and found. Reads nothing but this tensor's bytes.
  virtual absl::StatusOr<LoadedTensor> Load(absl::string_view name,
                                            const std::vector<int64_t>& shape) = 0;
};

}  // namespace moed
