#include "runtime/checkpoint/load_plan.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/checkpoint/checkpoint.h"
#include "tests/runtime/checkpoint/config_json.h"
#include "tests/support/shared_data.h"

namespace moed {
namespace {

using testing::Each;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

ModelConfig Mixtral8x22B() {
  return ParseModelConfig(AwkwardConfigJson({{"hidden_size", "6144"},
                                             {"intermediate_size", "16384"},
                                             {"num_hidden_layers", "56"},
                                             {"num_attention_heads", "48"},
                                             {"num_key_value_heads", "8"},
                                             {"head_dim", "128"},
                                             {"vocab_size", "32768"},
                                             {"num_local_experts", "8"},
                                             {"num_experts_per_tok", "2"},
                                             {"max_position_embeddings", "65536"}}),
                          "config.json")
      .value();
}

LoadPlan Plan(const ModelConfig& config, int num_ranks, const LoadPlanOptions& options,
              const CheckpointIndex* index = nullptr) {
  const auto placement = ExpertPlacement::Even(static_cast<int>(config.num_layers),
                                               static_cast<int>(config.num_experts), num_ranks);
  auto plan = MakeLoadPlan(config, placement, index, options);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return std::move(plan).value();
}

TEST(LoadPlan, TellsTheTruthAboutTheRealMixtral8x7B) {
  MOED_SKIP_WITHOUT_SHARED_DATA("mixtral-8x7b-meta");
  const auto metadata =
      ReadCheckpointMetadata(SharedDataPath("mixtral-8x7b-meta"), LoadFormat::kAuto);
  ASSERT_TRUE(metadata.ok()) << metadata.status();
  const LoadPlan plan =
      Plan(metadata->config, 8, {.memory_budget_bytes = 80'000'000'000}, &*metadata->index);
  EXPECT_EQ(plan.num_parameters, 46'702'792'704);
  EXPECT_EQ(plan.num_active_parameters, 12'879'925'248);
  EXPECT_EQ(plan.checkpoint_bytes, 93'405'585'408);
  EXPECT_EQ(metadata->index->total_size_bytes, plan.checkpoint_bytes);
  EXPECT_THAT(plan.warnings, IsEmpty());
  EXPECT_THAT(plan.shards, SizeIs(19));

  // An expert is three matrices of 4096 x 14336, and each rank holds one of eight per layer.
  const int64_t expert_bytes = int64_t{32} * 3 * 4096 * 14336 * 2;
  const int64_t attention = int64_t{32} * (2 * 4096 * 4096 + 2 * 1024 * 4096);
  const int64_t embedding_and_head = int64_t{2} * 32000 * 4096;
  const int64_t norms_and_routers = int64_t{65} * 4096 + 32 * 8 * 4096;
  const int64_t replicated_bytes = (attention + embedding_and_head) * 2 + norms_and_routers * 4;
  EXPECT_EQ(plan.replicated_bytes, replicated_bytes);
  EXPECT_EQ(plan.one_expert_bytes, expert_bytes / 32);
  EXPECT_EQ(plan.rotary_bytes, 32768 * 128 * 4);
  EXPECT_EQ(plan.kv_block_bytes, 16 * 2 * 32 * 8 * 128 * 2);
  EXPECT_EQ(plan.all_expert_bytes, 8 * expert_bytes);
  const int64_t needed = expert_bytes + replicated_bytes + 32768 * 128 * 4;
  const int64_t num_blocks = (80'000'000'000 - needed) / (16 * 2 * 32 * 8 * 128 * 2);
  ASSERT_THAT(plan.ranks, SizeIs(8));
  for (const RankLoadPlan& rank : plan.ranks) {
    EXPECT_EQ(rank.num_experts, 32);
    EXPECT_EQ(rank.expert_bytes, expert_bytes);
    EXPECT_EQ(rank.weight_bytes, expert_bytes + replicated_bytes);
    EXPECT_EQ(rank.weight_bytes / 10'000'000, 1448);  // 14.49 GB, rounded
    EXPECT_EQ(rank.checkpoint_bytes,
              (attention + embedding_and_head + norms_and_routers) * 2 + expert_bytes);
    EXPECT_THAT(rank.shards, SizeIs(19));
    EXPECT_TRUE(rank.fits);
    EXPECT_EQ(rank.num_kv_blocks, num_blocks);
    EXPECT_EQ(rank.num_kv_tokens, num_blocks * 16);
  }
  const std::string text = FormatLoadPlan(plan);
  EXPECT_THAT(text, HasSubstr("46,702,792,704 parameters, 12,879,925,248 active per token"));
  EXPECT_THAT(text, HasSubstr("14.49 GB per rank"));
  EXPECT_THAT(text, HasSubstr("all 19"));
}

TEST(LoadPlan, TellsTheTruthAboutMixtral8x22B) {
  const ModelConfig config = Mixtral8x22B();
  const LoadPlan plan = Plan(config, 8, {.memory_budget_bytes = 80'000'000'000});
  // Layer: q and o 6144 x 6144, k and v 1024 x 6144, router, two norms, 8 x 3 matrices.
  const int64_t matrix = int64_t{6144} * 16384;                           // 100,663,296
  const int64_t attention = int64_t{6144} * (6144 + 1024 + 1024 + 6144);  // 88,080,384
  const int64_t layer = 24 * matrix + attention + 8 * 6144 + 2 * 6144;    // 2,504,060,928
  const int64_t parameters = 56 * layer + 2 * int64_t{32768} * 6144 + 6144;
  EXPECT_EQ(parameters, 140'630'071'296);
  EXPECT_EQ(plan.num_parameters, parameters);
  EXPECT_EQ(plan.num_active_parameters, parameters - 56 * 6 * 3 * matrix);
  EXPECT_EQ(plan.num_active_parameters, 39'161'468'928);
  EXPECT_EQ(plan.checkpoint_bytes, 2 * parameters);
  const int64_t replicated_bytes =
      2 * (56 * attention + 2 * int64_t{32768} * 6144) + 4 * (int64_t{56} * 10 * 6144 + 6144);
  EXPECT_EQ(plan.replicated_bytes, replicated_bytes);
  const int64_t expert_bytes = 56 * 3 * matrix * 2;
  EXPECT_EQ(plan.ranks[7].expert_bytes, expert_bytes);
  EXPECT_EQ(plan.ranks[7].weight_bytes, expert_bytes + replicated_bytes);
  EXPECT_EQ(plan.kv_block_bytes, 16 * 2 * 56 * 8 * 128 * 2);
  EXPECT_EQ(plan.ranks[7].num_kv_blocks,
            (80'000'000'000 - expert_bytes - replicated_bytes - int64_t{65536} * 128 * 4) /
                (16 * 2 * 56 * 8 * 128 * 2));
  EXPECT_THAT(FormatLoadPlan(plan), HasSubstr("44.51 GB per rank"));
}

TEST(LoadPlan, CountsFloat32MatricesDoubleAndNormsTheSame) {
  const ModelConfig config = ParseModelConfig(AwkwardConfigJson(), "c").value();
  const LoadPlan narrow = Plan(config, 2, {.dtype = DType::kBFloat16});
  const LoadPlan wide = Plan(config, 2, {.dtype = DType::kFloat32});
  const int64_t norms_and_routers_bytes = 4 * (7 * 72 + 3 * 6 * 72);
  EXPECT_EQ(wide.replicated_bytes - norms_and_routers_bytes,
            2 * (narrow.replicated_bytes - norms_and_routers_bytes));
  EXPECT_EQ(wide.all_expert_bytes, 2 * narrow.all_expert_bytes);
  EXPECT_EQ(wide.kv_block_bytes, 2 * narrow.kv_block_bytes);
  EXPECT_EQ(wide.checkpoint_bytes, narrow.checkpoint_bytes);
}

TEST(LoadPlan, CountsATiedHeadTwiceInMemoryAndOnceAsParameters) {
  ModelConfig config = ParseModelConfig(AwkwardConfigJson(), "c").value();
  const LoadPlan untied = Plan(config, 1, {});
  config.tie_word_embeddings = true;
  const LoadPlan tied = Plan(config, 1, {});
  EXPECT_EQ(tied.replicated_bytes, untied.replicated_bytes);
  EXPECT_EQ(untied.num_parameters - tied.num_parameters, 61 * 72);
}

TEST(LoadPlan, SpreadsUnevenExpertsAndSharesReplicatedWeights) {
  const ModelConfig config = ParseModelConfig(AwkwardConfigJson(), "c").value();
  const LoadPlan plan = Plan(config, 11, {.ranks_share_replicated = true});
  int64_t experts = 0;
  int64_t expert_bytes = 0;
  for (const RankLoadPlan& rank : plan.ranks) {
    EXPECT_THAT(rank.num_experts, testing::AnyOf(1, 2));
    EXPECT_EQ(rank.expert_bytes, rank.num_experts * 3 * 72 * 40 * 2);
    EXPECT_EQ(rank.weight_bytes, rank.expert_bytes + (plan.replicated_bytes + 10) / 11);
    experts += rank.num_experts;
    expert_bytes += rank.expert_bytes;
  }
  EXPECT_EQ(experts, 18);
  EXPECT_EQ(expert_bytes, plan.all_expert_bytes);
  EXPECT_THAT(FormatLoadPlan(plan), HasSubstr("1 to 2 of 18"));
}

TEST(LoadPlan, SaysWhatDoesNotFit) {
  const ModelConfig config = ParseModelConfig(AwkwardConfigJson(), "c").value();
  const LoadPlan priced = Plan(config, 1, {});
  const int64_t needed = priced.ranks[0].needed_bytes;
  EXPECT_EQ(priced.ranks[0].num_kv_blocks, 0);
  const auto with_budget = [&](int64_t bytes) {
    return Plan(config, 1, {.memory_budget_bytes = bytes, .other_bytes = 1000});
  };
  const LoadPlan enough = with_budget(needed + 1000 + priced.kv_block_bytes);
  EXPECT_TRUE(enough.ranks[0].fits);
  EXPECT_EQ(enough.ranks[0].num_kv_blocks, 1);
  EXPECT_EQ(enough.ranks[0].num_kv_tokens, 16);
  const LoadPlan tight = with_budget(needed + 1000 + priced.kv_block_bytes - 1);
  EXPECT_FALSE(tight.ranks[0].fits);
  EXPECT_EQ(tight.ranks[0].num_kv_blocks, 0);
  EXPECT_THAT(FormatLoadPlan(tight), HasSubstr("DOES NOT FIT"));
  EXPECT_EQ(with_budget(1).ranks[0].num_kv_blocks, 0);
}

CheckpointIndex IndexOf(const ModelConfig& config) {
  CheckpointIndex index;
  index.file = "index.json";
  index.shards = {"1.safetensors", "2.safetensors", "3.safetensors"};
  // Experts 0 to 5 of a layer lie in the shard of their layer, all else in the first.
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    for (const std::string module :
         {"input_layernorm", "post_attention_layernorm", "self_attn.q_proj", "self_attn.k_proj",
          "self_attn.v_proj", "self_attn.o_proj", "block_sparse_moe.gate"}) {
      index.shard_of[prefix + module + ".weight"] = 0;
    }
    for (int64_t expert = 0; expert < config.num_experts; ++expert) {
      for (const std::string matrix : {"w1", "w2", "w3"}) {
        index.shard_of[prefix + "block_sparse_moe.experts." + std::to_string(expert) + "." +
                       matrix + ".weight"] = static_cast<int>(layer);
      }
    }
  }
  for (const std::string name :
       {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}) {
    index.shard_of[name] = 0;
  }
  return index;
}

TEST(LoadPlan, NamesTheShardsThatEachRankReads) {
  const ModelConfig config = ParseModelConfig(AwkwardConfigJson(), "c").value();
  const CheckpointIndex index = IndexOf(config);
  const LoadPlan plan = Plan(config, 11, {}, &index);
  // Even placement: expert e of layer l is number 6 l + e; rank 8 holds number 8, in layer 1.
  EXPECT_THAT(plan.ranks[8].shards, testing::ElementsAre(0, 1));
  EXPECT_THAT(plan.ranks[1].shards, testing::ElementsAre(0, 2));
  EXPECT_THAT(plan.ranks[0].shards, testing::ElementsAre(0, 1));
  EXPECT_THAT(FormatLoadPlan(plan), HasSubstr("1, 3 of 3"));
}

TEST(LoadPlan, RefusesAnIndexThatLacksTensors) {
  const ModelConfig config = ParseModelConfig(AwkwardConfigJson(), "c").value();
  CheckpointIndex index = IndexOf(config);
  index.shard_of.erase("model.layers.2.block_sparse_moe.experts.5.w3.weight");
  const auto plan = MakeLoadPlan(config, ExpertPlacement::Even(3, 6, 2), &index, {});
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(plan.status().message()),
              HasSubstr("index.json: tensor 'model.layers.2.block_sparse_moe.experts.5.w3.weight': "
                        "expected [40, 72], found no such tensor"));
}

TEST(LoadPlan, WarnsOfATotalSizeThatTheConfigDoesNotExplain) {
  const ModelConfig config = ParseModelConfig(AwkwardConfigJson(), "c").value();
  CheckpointIndex index = IndexOf(config);
  index.total_size_bytes = 5;
  EXPECT_THAT(Plan(config, 1, {}, &index).warnings, testing::ElementsAre(HasSubstr("found 5")));
}

TEST(LoadPlan, RefusesAPlacementOfAnotherModel) {
  const ModelConfig config = ParseModelConfig(AwkwardConfigJson(), "c").value();
  const auto plan = MakeLoadPlan(config, ExpertPlacement::Even(3, 8, 2), nullptr, {});
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(LoadPlan, FormatsWithinOneHundredColumns) {
  const LoadPlan plan = Plan(
      Mixtral8x22B(), 3, {.memory_budget_bytes = 288'000'000'000, .other_bytes = 2'000'000'000});
  const std::string text = FormatLoadPlan(plan);
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = text.find('\n', begin);
    ASSERT_NE(end, std::string::npos);
    EXPECT_LE(end - begin, 100U) << text.substr(begin, end - begin);
    begin = end + 1;
  }
}

}  // namespace
}  // namespace moed
