// Where tensors come from: a checkpoint's files, or seeded numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/core/buffer.h"
#include "kernels/core/dtype.h"
#include "kernels/core/tensor_view.h"

namespace moed {

// A tensor on loan. The view is valid while the object lives.
struct LoadedTensor {
  ConstTensorView view;
  Buffer storage;  // owns the memory; a mapping's release unmaps it
};

// A tensor that is the numbers of a key (SeededElement, kernels/core/seeded_values.h).
struct SeededTensor {
  uint64_t key = 0;
  DType dtype = DType::kFloat32;  // that they are rounded to
};

// Tensors by their Hugging Face names. Thread-safe: rank threads load at the same time.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // The tensor must have exactly `shape` and a float dtype; the error names file, tensor, expected
  // and found. Reads nothing but this tensor's bytes.
  virtual absl::StatusOr<LoadedTensor> Load(absl::string_view name,
                                            const std::vector<int64_t>& shape) = 0;

  // How to make the tensor where it is needed, with the bits that Load gives; nullopt: only Load
  // has it.
  virtual std::optional<SeededTensor> Seeded(absl::string_view /*name*/) const {
    return std::nullopt;
  }
};

}  // namespace moed
