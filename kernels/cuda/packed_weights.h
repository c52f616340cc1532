// Weights as the matrix kernels read them: row-major in the activation dtype, in device memory.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/check_weights.h"
#include "kernels/core/buffer.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_stream.h"

namespace moed::cuda {

class PackedLinear final : public LinearWeight {
 public:
  PackedLinear(Buffer memory, const LinearShape& shape, DType act)
      : memory_(std::move(memory)), shape_(shape), act_(act) {}

  int64_t in_features() const override { return shape_.in_features; }
  int64_t out_features() const override { return shape_.out_features; }
  int64_t bytes() const override { return memory_.bytes(); }
  DType act() const { return act_; }
  const void* data() const { return memory_.data(); }  // [out_features, in_features]

 private:
  Buffer memory_;
  LinearShape shape_;
  DType act_;
};

class PackedExpert final : public ExpertWeight {
 public:
  PackedExpert(Buffer gate_up, Buffer down, int64_t ffn, int64_t hidden, DType act)
      : gate_up_(std::move(gate_up)),
        down_(std::move(down)),
        ffn_(ffn),
        hidden_(hidden),
        act_(act) {}

  int64_t bytes() const override { return gate_up_.bytes() + down_.bytes(); }
  int64_t ffn() const { return ffn_; }
  int64_t hidden() const { return hidden_; }
  DType act() const { return act_; }
  // [InterleavedRows(ffn), hidden], as kernels/cuda/gemm_params.h has them.
  const void* gate_up() const { return gate_up_.data(); }
  const void* down() const { return down_.data(); }  // [hidden, ffn]

 private:
  Buffer gate_up_;
  Buffer down_;
  int64_t ffn_;
  int64_t hidden_;
  DType act_;
};

// As Backend::PackLinear and PackExpert. Sources lie in host or device memory; the stream has run
// when they return.
absl::StatusOr<std::unique_ptr<PackedLinear>> PackLinearWeight(
    CudaMemory& memory, CudaStream& stream, DType act, absl::Span<const ConstTensorView> parts);
absl::StatusOr<std::unique_ptr<PackedExpert>> PackExpertWeight(CudaMemory& memory,
                                                               CudaStream& stream, DType act,
                                                               ConstTensorView w1,
                                                               ConstTensorView w2,
                                                               ConstTensorView w3);

}  // namespace moed::cuda
