#include "runtime/checkpoint/model_weights.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/checkpoint/dummy_weight_source.h"
#include "runtime/checkpoint/expected_tensors.h"
#include "tests/runtime/checkpoint/config_json.h"
#include "tests/runtime/checkpoint/reference_backend.h"

namespace moed {
namespace {

using testing::HasSubstr;

// Notes what is loaded; can fail at one tensor.
class RecordingSource : public WeightSource {
 public:
  absl::StatusOr<LoadedTensor> Load(absl::string_view name,
                                    const std::vector<int64_t>& shape) override {
    names.emplace_back(name);
    if (name == failing) return absl::InvalidArgumentError("broken on purpose");
    return source_.Load(name, shape);
  }
  std::vector<std::string> names;
  std::string failing;

 private:
  DummyWeightSource source_{11, DType::kFloat32};
};

class ModelWeightsTest : public testing::Test {
 protected:
  ModelWeightsTest()
      : config_(ParseModelConfig(AwkwardConfigJson({{"torch_dtype", "\"float32\""}}), "c").value()),
        backend_(MakeReferenceBackend()),
        stream_(backend_->CreateStream()) {
    EXPECT_TRUE(backend_->PrepareWorkspace(Limits()).ok());
  }

  static WorkspaceLimits Limits() {
    WorkspaceLimits limits;
    limits.max_rows = 72;
    limits.max_expert_rows = 72;
    limits.max_logit_rows = 72;
    limits.max_context_tokens = 1;
    limits.hidden = 72;
    limits.ffn = 40;
    limits.vocab = 61;
    limits.num_heads = 6;
    limits.num_kv_heads = 3;
    limits.head_dim = 12;
    limits.num_experts = 6;
    limits.top_k = 3;
    return limits;
  }

  std::vector<float> Source(const std::string& name, const std::vector<int64_t>& shape) {
    const auto tensor = source_.Load(name, shape);
    const float* data = tensor->view.data<float>();
    return std::vector<float>(data, data + tensor->view.num_elements());
  }

  // The matrix inside a packed weight, [out, in], by multiplying it with the identity.
  std::vector<float> Unpack(const LinearWeight& weight) {
    const int64_t in = weight.in_features();
    const int64_t out = weight.out_features();
    std::vector<float> identity(static_cast<size_t>(in * in));
    for (int64_t i = 0; i < in; ++i) identity[static_cast<size_t>(i * in + i)] = 1;
    std::vector<float> transposed(static_cast<size_t>(in * out));
    backend_->Linear(*stream_, {.x = ConstTensorView(identity.data(), DType::kFloat32, {in, in}),
                                .weight = &weight,
                                .out = TensorView(transposed.data(), DType::kFloat32, {in, out})});
    std::vector<float> matrix(transposed.size());
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t i = 0; i < in; ++i) {
        matrix[static_cast<size_t>(o * in + i)] = transposed[static_cast<size_t>(i * out + o)];
      }
    }
    return matrix;
  }

  // What an expert makes of three fixed rows.
  std::vector<float> RunExpert(const ExpertWeight& expert) {
    std::vector<float> x;
    for (int i = 0; i < 3 * 72; ++i) x.push_back(static_cast<float>(i % 17) - 8);
    const std::vector<int32_t> offsets = {0, 3};
    const std::vector<int32_t> rows = {0, 1, 2};
    std::vector<float> out(x.size());
    const ExpertWeight* const experts[] = {&expert};
    backend_->ExpertFfn(*stream_,
                        {.x = ConstTensorView(x.data(), DType::kFloat32, {3, 72}),
                         .experts = experts,
                         .expert_offsets = ConstTensorView(offsets.data(), DType::kInt32, {2}),
                         .row_index = ConstTensorView(rows.data(), DType::kInt32, {3}),
                         .out_index = ConstTensorView(rows.data(), DType::kInt32, {3}),
                         .out = TensorView(out.data(), DType::kFloat32, {3, 72})});
    return out;
  }

  std::unique_ptr<ReplicatedWeights> LoadReplicated() {
    auto weights = LoadReplicatedWeights(config_, source_, *backend_, nullptr);
    EXPECT_TRUE(weights.ok()) << weights.status();
    return std::move(weights).value();
  }

  ModelConfig config_;
  RecordingSource source_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Stream> stream_;
};

std::vector<float> Floats(const Buffer& buffer) {
  std::vector<float> floats(static_cast<size_t>(buffer.bytes()) / sizeof(float));
  std::memcpy(floats.data(), buffer.data(), floats.size() * sizeof(float));
  return floats;
}

TEST_F(ModelWeightsTest, PutsEveryReplicatedTensorInItsPlace) {
  const auto weights = LoadReplicated();
  EXPECT_EQ(Floats(weights->embedding), Source("model.embed_tokens.weight", {61, 72}));
  EXPECT_EQ(Unpack(*weights->lm_head), Source("lm_head.weight", {61, 72}));
  EXPECT_EQ(Floats(weights->final_norm), Source("model.norm.weight", {72}));
  ASSERT_EQ(weights->layers.size(), 3U);
  const LayerWeights& layer = weights->layers[2];
  std::vector<float> qkv = Source("model.layers.2.self_attn.q_proj.weight", {72, 72});
  for (const std::string part : {"k", "v"}) {
    const auto rows = Source("model.layers.2.self_attn." + part + "_proj.weight", {36, 72});
    qkv.insert(qkv.end(), rows.begin(), rows.end());
  }
  EXPECT_EQ(Unpack(*layer.qkv), qkv);
  EXPECT_EQ(Unpack(*layer.o), Source("model.layers.2.self_attn.o_proj.weight", {72, 72}));
  EXPECT_EQ(Floats(layer.router), Source("model.layers.2.block_sparse_moe.gate.weight", {6, 72}));
  EXPECT_EQ(Floats(layer.attention_norm), std::vector<float>(72, 1.0F));
  EXPECT_EQ(Floats(layer.ffn_norm), std::vector<float>(72, 1.0F));
}

TEST_F(ModelWeightsTest, LoadsOnlyTheExpertsOfTheRankInTheirOrder) {
  const auto placement = ExpertPlacement::Even(3, 6, 4);
  const auto weights = LoadExpertWeights(config_, placement, 1, source_, *backend_, nullptr);
  ASSERT_TRUE(weights.ok()) << weights.status();
  // Even placement over 4 ranks: rank 1 holds experts 1 and 5 of layer 0, 3 of layer 1, ...
  const std::vector<std::vector<int>> held = {{1, 5}, {3}, {1, 5}};
  const std::vector<std::string> loaded = std::exchange(source_.names, {});
  std::vector<std::string> expected;
  ASSERT_EQ((*weights)->experts.size(), 3U);
  for (size_t layer = 0; layer < held.size(); ++layer) {
    ASSERT_EQ((*weights)->experts[layer].size(), held[layer].size());
    for (size_t local = 0; local < held[layer].size(); ++local) {
      const std::string prefix = "model.layers." + std::to_string(layer) +
                                 ".block_sparse_moe.experts." + std::to_string(held[layer][local]) +
                                 ".";
      for (const std::string matrix : {"w1", "w2", "w3"}) {
        expected.push_back(prefix + matrix + ".weight");
      }
      const auto w1 = source_.Load(prefix + "w1.weight", {40, 72});
      const auto w2 = source_.Load(prefix + "w2.weight", {72, 40});
      const auto w3 = source_.Load(prefix + "w3.weight", {40, 72});
      const auto direct = backend_->PackExpert(w1->view, w2->view, w3->view);
      ASSERT_TRUE(direct.ok()) << direct.status();
      EXPECT_EQ(RunExpert(*(*weights)->experts[layer][local]), RunExpert(**direct)) << prefix;
    }
  }
  EXPECT_EQ(loaded, expected);
}

TEST_F(ModelWeightsTest, UsesTheEmbeddingAsATiedHead) {
  config_.tie_word_embeddings = true;
  const auto weights = LoadReplicated();
  EXPECT_EQ(Unpack(*weights->lm_head), Source("model.embed_tokens.weight", {61, 72}));
  EXPECT_THAT(source_.names, testing::Not(testing::Contains("lm_head.weight")));
}

TEST_F(ModelWeightsTest, SumsUpWhatItCost) {
  const auto weights = LoadReplicated();
  const int64_t elements = 2 * 61 * 72 + 3 * (72 * 72 * 2 + 36 * 72 * 2 + 6 * 72 + 2 * 72) + 72;
  EXPECT_EQ(weights->summary.num_tensors, 3 + 3 * 7);
  EXPECT_EQ(weights->summary.source_bytes, elements * 4);
  EXPECT_GE(weights->summary.device_bytes, elements * 4 + 50 * 12 * 4);
  EXPECT_EQ(weights->summary.device_bytes, backend_->allocated_bytes(MemoryKind::kWeights));
}

TEST_F(ModelWeightsTest, ReportsProgressFromNothingToAll) {
  std::vector<std::pair<int64_t, int64_t>> reports;
  const LoadProgress progress = [&](int64_t loaded, int64_t total) {
    reports.emplace_back(loaded, total);
    return true;
  };
  ASSERT_TRUE(LoadReplicatedWeights(config_, source_, *backend_, progress).ok());
  ASSERT_EQ(reports.size(), 1U + 24U);
  EXPECT_EQ(reports.front().first, 0);
  EXPECT_EQ(reports.back().first, reports.back().second);
  for (size_t i = 1; i < reports.size(); ++i) {
    EXPECT_GT(reports[i].first, reports[i - 1].first);
    EXPECT_EQ(reports[i].second, reports[0].second);
  }
  reports.clear();
  const auto placement = ExpertPlacement::Even(3, 6, 4);
  ASSERT_TRUE(LoadExpertWeights(config_, placement, 1, source_, *backend_, progress).ok());
  EXPECT_EQ(reports.back(), std::pair(int64_t{5 * 3 * 40 * 72 * 4}, int64_t{5 * 3 * 40 * 72 * 4}));
}

TEST_F(ModelWeightsTest, StopsWithinOneTensorOfACancel) {
  const LoadProgress progress = [&](int64_t, int64_t) { return source_.names.size() < 4; };
  const auto weights = LoadReplicatedWeights(config_, source_, *backend_, progress);
  EXPECT_EQ(weights.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(source_.names.size(), 4U);
  EXPECT_EQ(backend_->allocated_bytes(MemoryKind::kWeights), 0);
}

TEST_F(ModelWeightsTest, PassesTheErrorOfATensorOn) {
  source_.failing = "model.layers.1.self_attn.v_proj.weight";
  const auto weights = LoadReplicatedWeights(config_, source_, *backend_, nullptr);
  EXPECT_THAT(std::string(weights.status().message()), HasSubstr("broken on purpose"));
  EXPECT_EQ(backend_->allocated_bytes(MemoryKind::kWeights), 0);
}

TEST_F(ModelWeightsTest, TabulatesAnglesOfEveryPosition) {
  config_.rope_position_scale = 0.25;
  const auto weights = LoadReplicated();
  const std::vector<float> table = Floats(weights->cos_sin);
  ASSERT_EQ(table.size(), 50U * 12U);
  for (int position = 0; position < 50; ++position) {
    for (int pair = 0; pair < 6; ++pair) {
      const double angle = position * 0.25 / std::pow(10000.0, pair / 6.0);
      const size_t row = static_cast<size_t>(position) * 12;
      EXPECT_NEAR(table[row + pair], std::cos(angle), 1e-7) << position << ", " << pair;
      EXPECT_NEAR(table[row + 6 + pair], std::sin(angle), 1e-7) << position << ", " << pair;
    }
  }
}

TEST_F(ModelWeightsTest, MakesSeededTensorsOnTheDeviceWithTheBitsOfTheHost) {
  DummyWeightSource seeded(11, DType::kFloat32);
  ASSERT_TRUE(seeded.Seeded(kLmHeadTensor).has_value());
  const auto made = LoadReplicatedWeights(config_, seeded, *backend_, nullptr);
  ASSERT_TRUE(made.ok()) << made.status();
  const auto loaded = LoadReplicated();  // from a source that makes everything on the host
  EXPECT_EQ((*made)->summary.source_bytes, loaded->summary.source_bytes);
  EXPECT_EQ(std::memcmp((*made)->embedding.data(), loaded->embedding.data(),
                        static_cast<size_t>(loaded->embedding.bytes())),
            0);
  EXPECT_EQ(Unpack(*(*made)->lm_head), Unpack(*loaded->lm_head));
  EXPECT_EQ(Unpack(*(*made)->layers[1].qkv), Unpack(*loaded->layers[1].qkv));
}

TEST_F(ModelWeightsTest, SharesReplicatedWeightsBetweenBackendsOfOneKind) {
  const auto weights = LoadReplicated();
  const std::vector<float> first = Unpack(*weights->lm_head);
  backend_ = MakeReferenceBackend();
  stream_ = backend_->CreateStream();
  ASSERT_TRUE(backend_->PrepareWorkspace(Limits()).ok());
  EXPECT_EQ(Unpack(*weights->lm_head), first);
}

}  // namespace
}  // namespace moed
