// One MoE layer with known inputs and outputs, through the operations that compute it.
#include <cmath>
#include <fstream>

#include "nlohmann/json.hpp"
#include "tests/kernels/cpu/kernel_test.h"
#include "tests/support/shared_data.h"

namespace moed {
namespace {

using MoeLayerGoldenTest = KernelTest;
INSTANTIATE_TEST_SUITE_P(Kernels, MoeLayerGoldenTest,
                         testing::Values(KernelCase{Kernels::kReference, DType::kFloat32},
                                         KernelCase{Kernels::kBaseline, DType::kFloat32},
                                         KernelCase{Kernels::kPortable, DType::kFloat32},
                                         KernelCase{Kernels::kAvx512Bf16, DType::kFloat32}),
                         KernelCaseName);

TEST_P(MoeLayerGoldenTest, RouteGroupFfnAndCombineGiveTheKnownOutput) {
  const std::string file = "golden/moe_layer/moe_mixtral_fp32.json";
  MOED_SKIP_WITHOUT_SHARED_DATA(file);
  std::ifstream stream(SharedDataPath(file));
  const nlohmann::json golden = nlohmann::json::parse(stream);
  const int64_t rows = golden["num_rows"];
  const int64_t num_experts = golden["num_experts"];
  const int64_t hidden = golden["hidden_size"];
  const int64_t ffn = golden["inter_size"];
  const int64_t top_k = golden["top_k"];
  const auto tensor = [&](const char* name, std::vector<int64_t> shape) {
    return Tensor::Of(DType::kFloat32, std::move(shape), golden[name].get<std::vector<float>>());
  };

  // The file gives router logits: they go in as rows, times the unit matrix.
  const Tensor logits = tensor("router_probs", {rows, num_experts});
  Tensor unit(DType::kFloat32, {num_experts, num_experts});
  for (int64_t e = 0; e < num_experts; ++e) unit.set(e * num_experts + e, 1.0F);
  Tensor ids(DType::kInt32, {rows, top_k});
  Tensor weights(DType::kFloat32, {rows, top_k});
  backend_->Route(*stream_,
                  {logits, unit, RouterScoring::kTopKThenSoftmax, {}, ids.view(), weights.view()});

  std::vector<int32_t> identity;
  for (int32_t e = 0; e < num_experts; ++e) identity.push_back(e);
  const Tensor local = Tensor::Ints({num_experts}, identity);
  Tensor offsets(DType::kInt32, {num_experts + 1});
  Tensor row_index(DType::kInt32, {rows * top_k});
  Tensor out_index(DType::kInt32, {rows * top_k});
  backend_->GroupByExpert(*stream_,
                          {ids, local, 0, offsets.view(), row_index.view(), out_index.view()});

  const Tensor w1 = tensor("fc1_experts_weights", {num_experts * ffn, hidden});
  const Tensor w2 = tensor("fc2_experts_weights", {num_experts * hidden, ffn});
  const Tensor w3 = tensor("fc3_experts_weights", {num_experts * ffn, hidden});
  std::vector<std::unique_ptr<ExpertWeight>> packed;
  std::vector<const ExpertWeight*> experts;
  for (int64_t e = 0; e < num_experts; ++e) {
    const auto part = [e](const Tensor& all, int64_t count) {
      return static_cast<ConstTensorView>(all).Rows(e * count, count);
    };
    auto expert = backend_->PackExpert(part(w1, ffn), part(w2, hidden), part(w3, ffn));
    ASSERT_TRUE(expert.ok()) << expert.status();
    packed.push_back(*std::move(expert));
    experts.push_back(packed.back().get());
  }
  const Tensor x = tensor("input", {rows, hidden});
  Tensor contributions(DType::kFloat32, {rows * top_k, hidden});
  backend_->ExpertFfn(*stream_, {x, experts, offsets, row_index, out_index, contributions.view()});

  // Compact results lie by row, then choice.
  std::vector<int32_t> places;
  for (int32_t pair = 0; pair < rows * top_k; ++pair) places.push_back(pair);
  const Tensor index = Tensor::Ints({rows, top_k}, places);
  Tensor residual(DType::kFloat32, {rows, hidden});
  backend_->Combine(*stream_, {contributions, index, weights, residual.view()});
  const auto want = golden["output"].get<std::vector<double>>();
  ExpectClose(residual.floats(), want, std::vector<double>(want.size(), 1e-6), "the layer");
}

}  // namespace
}  // namespace moed
