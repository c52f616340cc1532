#include "runtime/checkpoint/checkpoint.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/core/float_types.h"
#include "runtime/checkpoint/model_weights.h"
#include "tests/runtime/checkpoint/config_json.h"
#include "tests/runtime/checkpoint/reference_backend.h"
#include "tests/runtime/checkpoint/synthetic_checkpoint.h"
#include "tests/support/temp_directory.h"

namespace moed {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// Loads all weights on one rank; the bytes that were read.
int64_t LoadAll(const Checkpoint& checkpoint) {
  const auto backend = MakeReferenceBackend(DType::kBFloat16);
  const ModelConfig& config = checkpoint.metadata.config;
  const auto replicated = LoadReplicatedWeights(config, *checkpoint.weights, *backend, nullptr);
  EXPECT_TRUE(replicated.ok()) << replicated.status();
  const auto placement = ExpertPlacement::Even(static_cast<int>(config.num_layers),
                                               static_cast<int>(config.num_experts), 1);
  const auto experts =
      LoadExpertWeights(config, placement, 0, *checkpoint.weights, *backend, nullptr);
  EXPECT_TRUE(experts.ok()) << experts.status();
  return (*replicated)->summary.source_bytes + (*experts)->summary.source_bytes;
}

TEST(Checkpoint, OpensTheGoldenModel) {
  const auto checkpoint =
      Checkpoint::Open(std::string(MOED_SOURCE_DIR) + "/tests/golden/data/tiny", {});
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->metadata.config.num_layers, 2);
  EXPECT_EQ(checkpoint->metadata.config.head_dim, 16);
  EXPECT_THAT(checkpoint->metadata.generation.eos_token_ids, ElementsAre(2));
  EXPECT_EQ(checkpoint->metadata.tokenizer_path, std::nullopt);
  EXPECT_THAT(checkpoint->metadata.warnings, testing::IsEmpty());
  // All of the file but its header.
  EXPECT_EQ(LoadAll(*checkpoint), checkpoint->metadata.index->total_size_bytes);
  EXPECT_EQ(LoadAll(*checkpoint),
            2 * (2 * 32000 * 64 + 64 +
                 2 * (2 * 64 + 64 * 64 * 2 + 2 * 32 * 64 + 8 * 64 + 8 * 3 * 64 * 128)));
}

TEST(Checkpoint, OpensTheDemonstrationModel) {
  const std::string path = std::string(MOED_SOURCE_DIR) + "/models/demo";
  const auto checkpoint = Checkpoint::Open(path, {});
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->metadata.config.num_experts, 8);
  EXPECT_EQ(checkpoint->metadata.tokenizer_path, path + "/tokenizer.model");
  EXPECT_EQ(LoadAll(*checkpoint), checkpoint->metadata.index->total_size_bytes);
}

TEST(Checkpoint, MakesDummyWeightsForTheAwkwardConfig) {
  const TempDirectory directory;
  const std::string config_path = directory.Write("config.json", AwkwardConfigJson());
  for (const std::string& path : {directory.path(), config_path}) {
    const auto checkpoint = Checkpoint::Open(path, {.format = LoadFormat::kDummy, .dummy_seed = 1});
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_EQ(LoadAll(*checkpoint),
              2 * (2 * 61 * 72 + 72 +
                   3 * (2 * 72 + 2 * 72 * 72 + 2 * 36 * 72 + 6 * 72 + 6 * 3 * 72 * 40)));
  }
}

TEST(Checkpoint, NeverMakesDummyWeightsUnasked) {
  const TempDirectory directory;
  directory.Write("config.json", AwkwardConfigJson());
  const auto checkpoint = Checkpoint::Open(directory.path(), {});
  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr("--load-format dummy"));
}

TEST(Checkpoint, NamesAMissingConfig) {
  const TempDirectory directory;
  const auto checkpoint = Checkpoint::Open(directory.path(), {});
  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(checkpoint.status().message()),
              HasSubstr(directory.path() + "/config.json: cannot open"));
}

TEST(Checkpoint, RefusesABadTensorBeforeAnyIsLoaded) {
  const TempDirectory directory;
  directory.Write("config.json", AwkwardConfigJson());
  auto tensors = SyntheticTensors(ParseModelConfig(AwkwardConfigJson(), "c").value());
  tensors.back().shape = {72, 61};
  tensors[1].dtype = "U16";
  directory.Write("model.safetensors", SafetensorsBytes(tensors));
  const auto checkpoint = Checkpoint::Open(directory.path(), {});
  EXPECT_THAT(std::string(checkpoint.status().message()),
              AllOf(HasSubstr("tensor 'lm_head.weight': expected shape [61, 72], found [72, 61]"),
                    HasSubstr("input_layernorm.weight': expected dtype BF16, F16 or F32, found")));
}

TEST(Checkpoint, RefusesGenerationDefaultsOutsideTheVocabulary) {
  const TempDirectory directory;
  directory.Write("config.json", AwkwardConfigJson());
  directory.Write("generation_config.json", R"({"eos_token_id":[2,61]})");
  const auto checkpoint = Checkpoint::Open(directory.path(), {.format = LoadFormat::kDummy});
  EXPECT_THAT(std::string(checkpoint.status().message()),
              AllOf(HasSubstr("generation_config.json: field 'eos_token_id'"), HasSubstr("61")));
}

TEST(Checkpoint, PassesWarningsOn) {
  const TempDirectory directory;
  directory.Write("config.json", AwkwardConfigJson({{"frobnicate", "1"}}));
  directory.Write("generation_config.json", R"({"num_beams":4})");
  const auto checkpoint = Checkpoint::Open(directory.path(), {.format = LoadFormat::kDummy});
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT(checkpoint->metadata.warnings,
              ElementsAre(HasSubstr("'frobnicate'"), HasSubstr("'num_beams'")));
}

TEST(LoadFormat, KnowsItsNames) {
  EXPECT_EQ(*ParseLoadFormat("auto"), LoadFormat::kAuto);
  EXPECT_EQ(*ParseLoadFormat("safetensors"), LoadFormat::kSafetensors);
  EXPECT_EQ(*ParseLoadFormat("dummy"), LoadFormat::kDummy);
  EXPECT_THAT(std::string(ParseLoadFormat("gguf").status().message()), HasSubstr("'gguf'"));
}

}  // namespace
}  // namespace moed
