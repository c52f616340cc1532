// A seeded mixture-of-experts layer: its weights, rows with choices, and a plain computation of it.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "kernels/backend.h"
#include "kernels/core/float_types.h"
#include "kernels/cpu/cpu_backend.h"

namespace moed {

inline constexpr int64_t kHidden = 12;
inline constexpr int64_t kFfn = 8;

inline std::unique_ptr<Backend> MakeTestBackend(DType act) {
  std::unique_ptr<Backend> backend =
      MakeCpuBackend(CpuBackendOptions{CpuIsa::kReference, act, nullptr}).value();
  WorkspaceLimits limits;
  limits.max_rows = 16;
  limits.max_expert_rows = 256;
  limits.hidden = kHidden;
  limits.ffn = kFfn;
  limits.num_experts = 8;
  limits.top_k = 3;
  MOED_CHECK(backend->PrepareWorkspace(limits).ok(), "no workspace");
  return backend;
}

// A matrix in the dtype of activations.
class ActMatrix {
 public:
  ActMatrix(DType act, int64_t num_rows, int64_t width)
      : act_(act), num_rows_(num_rows), width_(width) {
    const auto size = static_cast<size_t>(num_rows * width);
    if (act == DType::kFloat32) floats_.resize(size);
    if (act == DType::kBFloat16) halves_.resize(size);
  }
  void Set(int64_t row, int64_t column, float value) {
    const auto place = static_cast<size_t>(row * width_ + column);
    if (act_ == DType::kFloat32) floats_[place] = value;
    if (act_ == DType::kBFloat16) halves_[place] = ToBFloat16(value);
  }
  TensorView view() {
    void* data = act_ == DType::kFloat32 ? static_cast<void*>(floats_.data()) : halves_.data();
    return TensorView(data, act_, {num_rows_, width_});
  }

 private:
  DType act_;
  int64_t num_rows_;
  int64_t width_;
  std::vector<float> floats_;
  std::vector<BFloat16> halves_;
};

// One rank's rows of one step.
struct RankRows {
  ActMatrix rows;              // [num_tokens, kHidden]
  std::vector<int32_t> ids;    // [num_tokens, top_k]
  std::vector<float> weights;  // [num_tokens, top_k]
  int64_t num_tokens;
  int64_t top_k;

  ConstTensorView ids_view() const {
    return ConstTensorView(ids.data(), DType::kInt32, {num_tokens, top_k});
  }
  ConstTensorView weights_view() const {
    return ConstTensorView(weights.data(), DType::kFloat32, {num_tokens, top_k});
  }
};

// The experts of one layer, packed once and shared by the backends of all ranks.
struct Experts {
  std::vector<std::unique_ptr<ExpertWeight>> weights;  // [num_experts]

  static Experts Make(Backend& backend, int num_experts, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal(0.0F, 0.5F);
    const auto matrix = [&] {
      std::vector<float> values(static_cast<size_t>(kHidden * kFfn));
      for (float& value : values) value = normal(random);
      return values;
    };
    Experts experts;
    for (int expert = 0; expert < num_experts; ++expert) {
      const std::vector<float> w1 = matrix();
      const std::vector<float> w2 = matrix();
      const std::vector<float> w3 = matrix();
      experts.weights.push_back(
          backend
              .PackExpert(ConstTensorView(w1.data(), DType::kFloat32, {kFfn, kHidden}),
                          ConstTensorView(w2.data(), DType::kFloat32, {kHidden, kFfn}),
                          ConstTensorView(w3.data(), DType::kFloat32, {kFfn, kHidden}))
              .value());
    }
    return experts;
  }
};

// What the layer adds to a zero residual, one row and one choice at a time on one rank.
inline std::vector<float> PlainMoeLayer(Backend& backend, const Experts& experts, RankRows& input) {
  const DType act = backend.activation_dtype();
  const std::unique_ptr<Stream> stream = backend.CreateStream();
  std::vector<float> residual(static_cast<size_t>(input.num_tokens * kHidden));
  ActMatrix contributions(act, input.num_tokens * input.top_k, kHidden);
  std::vector<int32_t> contribution_index(input.ids.size(), -1);
  const std::vector<int32_t> one_pair = {0, 1};
  for (int64_t pair = 0; pair < input.num_tokens * input.top_k; ++pair) {
    const int32_t expert = input.ids[static_cast<size_t>(pair)];
    if (expert < 0) continue;
    contribution_index[static_cast<size_t>(pair)] = static_cast<int32_t>(pair);
    const auto row = static_cast<int32_t>(pair / input.top_k);
    const auto place = static_cast<int32_t>(pair);
    const ExpertWeight* weight = experts.weights[static_cast<size_t>(expert)].get();
    backend.ExpertFfn(
        *stream,
        ExpertFfnArgs{.x = input.rows.view(),
                      .experts = absl::MakeConstSpan(&weight, 1),
                      .expert_offsets = ConstTensorView(one_pair.data(), DType::kInt32, {2}),
                      .row_index = ConstTensorView(&row, DType::kInt32, {1}),
                      .out_index = ConstTensorView(&place, DType::kInt32, {1}),
                      .out = contributions.view()});
  }
  backend.Combine(*stream, CombineArgs{.contributions = contributions.view(),
                                       .contribution_index =
                                           ConstTensorView(contribution_index.data(), DType::kInt32,
                                                           {input.num_tokens, input.top_k}),
                                       .topk_weights = input.weights_view(),
                                       .residual = TensorView(residual.data(), DType::kFloat32,
                                                              {input.num_tokens, kHidden})});
  return residual;
}

}  // namespace moed
