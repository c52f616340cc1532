// Seeded weights in place of a checkpoint.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/core/dtype.h"
#include "runtime/checkpoint/weight_source.h"

namespace moed {

// Gives any tensor of any shape. An element depends on seed, tensor name and its place only, not
// on what else is loaded, in which order or by how many ranks; a bfloat16 tensor is the float32
// one rounded. Norm weights are 1, all others nearly normal with standard deviation 0.02, the
// initializer_range of the Hugging Face models. Stateless, thread-safe.
class DummyWeightSource : public WeightSource {
 public:
  // `dtype` is that of the tensors, float32 or bfloat16.
  DummyWeightSource(uint64_t seed, DType dtype);

  absl::StatusOr<LoadedTensor> Load(absl::string_view name,
                                    const std::vector<int64_t>& shape) override;
  std::optional<SeededTensor> Seeded(absl::string_view name) const override;

 private:
  const uint64_t seed_;
  const DType dtype_;
};

}  // namespace moed
