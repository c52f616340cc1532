#include "runtime/checkpoint/safetensors_checkpoint.h"

#include <cstring>
#include <filesystem>
#include <latch>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/checkpoint/config_json.h"
#include "tests/runtime/checkpoint/synthetic_checkpoint.h"
#include "tests/support/temp_directory.h"

namespace moed {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class SafetensorsCheckpointTest : public testing::Test {
 protected:
  SafetensorsCheckpointTest()
      : config_(ParseModelConfig(AwkwardConfigJson(), "config.json").value()),
        tensors_(SyntheticTensors(config_)) {}

  static std::string TwoShards(const StoredTensor& tensor) {
    return absl::StrContains(tensor.name, "experts") ? "experts.safetensors" : "rest.safetensors";
  }

  StoredTensor& Tensor(const std::string& name) {
    for (StoredTensor& tensor : tensors_) {
      if (tensor.name == name) return tensor;
    }
    ADD_FAILURE() << "no tensor " << name;
    return tensors_.front();
  }

  void WriteSingleFile() { directory_.Write("model.safetensors", SafetensorsBytes(tensors_)); }

  // The error of opening and verifying, "" when there is none.
  std::string Error() {
    warnings_.clear();
    const auto checkpoint = SafetensorsCheckpoint::Open(directory_.path());
    if (!checkpoint.ok()) return std::string(checkpoint.status().message());
    return std::string((*checkpoint)->Verify(config_, warnings_).message());
  }

  TempDirectory directory_;
  ModelConfig config_;
  std::vector<StoredTensor> tensors_;
  std::vector<std::string> warnings_;
};

TEST_F(SafetensorsCheckpointTest, LoadsTheSameFromOneFileAndFromShards) {
  const TempDirectory other;
  WriteSingleFile();
  WriteShards(other, tensors_, TwoShards);
  for (const std::string& path : {directory_.path(), other.path()}) {
    const auto checkpoint = SafetensorsCheckpoint::Open(path);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_TRUE((*checkpoint)->Verify(config_, warnings_).ok());
    int64_t bytes = 0;
    for (const StoredTensor& stored : tensors_) {
      const auto loaded = (*checkpoint)->Load(stored.name, stored.shape);
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      ASSERT_EQ(loaded->view.bytes(), static_cast<int64_t>(stored.bytes.size()));
      EXPECT_EQ(std::memcmp(loaded->view.raw(), stored.bytes.data(), stored.bytes.size()), 0)
          << stored.name;
      bytes += loaded->view.bytes();
    }
    EXPECT_EQ((*checkpoint)->loaded_bytes(), bytes);
  }
  EXPECT_THAT(warnings_, IsEmpty());
}

// Every thread loads every tensor, each beginning at another one: as rank threads do, and worse.
TEST_F(SafetensorsCheckpointTest, ServesSeveralThreadsAtOnce) {
  constexpr size_t kNumThreads = 4;
  WriteShards(directory_, tensors_, TwoShards);
  const auto checkpoint = SafetensorsCheckpoint::Open(directory_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  std::vector<std::string> wrong(kNumThreads);
  std::latch all_ready(kNumThreads);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kNumThreads; ++t) {
    threads.emplace_back([&, t] {
      all_ready.arrive_and_wait();
      for (size_t i = 0; i < tensors_.size(); ++i) {
        const StoredTensor& stored =
            tensors_[(i + t * tensors_.size() / kNumThreads) % tensors_.size()];
        const auto loaded = (*checkpoint)->Load(stored.name, stored.shape);
        if (!loaded.ok() || loaded->view.bytes() != static_cast<int64_t>(stored.bytes.size()) ||
            std::memcmp(loaded->view.raw(), stored.bytes.data(), stored.bytes.size()) != 0) {
          wrong[t] = stored.name;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, testing::Each(IsEmpty()));
  int64_t bytes = 0;
  for (const StoredTensor& stored : tensors_) bytes += static_cast<int64_t>(stored.bytes.size());
  EXPECT_EQ((*checkpoint)->loaded_bytes(), static_cast<int64_t>(kNumThreads) * bytes);
}

TEST_F(SafetensorsCheckpointTest, RefusesADirectoryWithoutWeights) {
  const auto checkpoint = SafetensorsCheckpoint::Open(directory_.path());
  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(checkpoint.status().message()),
              AllOf(HasSubstr(directory_.path()), HasSubstr("model.safetensors.index.json"),
                    HasSubstr("--load-format dummy")));
}

TEST_F(SafetensorsCheckpointTest, NamesMissingTensorsTogether) {
  std::erase_if(tensors_, [](const StoredTensor& tensor) {
    return tensor.name == "model.norm.weight" ||
           tensor.name == "model.layers.1.block_sparse_moe.experts.4.w2.weight";
  });
  WriteSingleFile();
  EXPECT_THAT(Error(), AllOf(HasSubstr("tensor 'model.norm.weight': expected [72], found no such"),
                             HasSubstr("'model.layers.1.block_sparse_moe.experts.4.w2.weight': "
                                       "expected [72, 40]")));
}

TEST_F(SafetensorsCheckpointTest, CountsProblemsBeyondTheFirstTen) {
  tensors_.resize(1);
  WriteSingleFile();
  // 3 * (7 + 6 * 3) + 3 tensors less the embedding, ten of them named.
  EXPECT_THAT(Error(), HasSubstr("; and 67 more"));
}

TEST_F(SafetensorsCheckpointTest, NamesWrongShapesAndDTypes) {
  Tensor("model.layers.0.self_attn.k_proj.weight").shape = {72, 36};
  Tensor("lm_head.weight").dtype = "I16";
  WriteSingleFile();
  EXPECT_THAT(Error(),
              AllOf(HasSubstr("'model.layers.0.self_attn.k_proj.weight': expected shape [36, 72], "
                              "found [72, 36]"),
                    HasSubstr("'lm_head.weight': expected dtype BF16, F16 or F32, found I16")));
}

TEST_F(SafetensorsCheckpointTest, RefusesExtraTensorsThatWouldChangeTheMaths) {
  for (const std::string name :
       {"model.layers.0.self_attn.q_proj.bias", "model.layers.2.self_attn.q_norm.weight",
        "model.layers.1.block_sparse_moe.experts.6.w1.weight", "model.norm.bias", "lm_head.bias",
        "model.layers.0.block_sparse_moe.experts.0.w1.weight_scale", "model.layers.-1.weight"}) {
    tensors_.push_back({name, "BF16", {1}, "xy"});
    WriteSingleFile();
    EXPECT_THAT(Error(), AllOf(HasSubstr("tensor '" + name + "'"), HasSubstr("change the result")));
    tensors_.pop_back();
  }
}

TEST_F(SafetensorsCheckpointTest, WarnsOfExtraTensorsThatDoNot) {
  tensors_.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {1}, "wxyz"});
  tensors_.push_back({"model.layers.3.input_layernorm.weight", "BF16", {1}, "xy"});
  tensors_.push_back({"vision_tower.weight", "BF16", {1}, "xy"});
  WriteSingleFile();
  EXPECT_EQ(Error(), "");
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("'model.layers.3.input_layernorm.weight' is"),
                                     HasSubstr("'vision_tower.weight' is ignored")));
}

TEST_F(SafetensorsCheckpointTest, AcceptsTheCopyOfATiedHead) {
  config_.tie_word_embeddings = true;
  WriteSingleFile();
  EXPECT_EQ(Error(), "");
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(SafetensorsCheckpointTest, RefusesAnIndexThatDisagreesWithItsShards) {
  WriteShards(directory_, tensors_, TwoShards);
  ASSERT_EQ(Error(), "");
  const std::vector<StoredTensor> one = {{"model.norm.weight", "BF16", {72}, std::string(144, 0)}};
  const std::vector<StoredTensor> unknown = {{"unnamed.weight", "BF16", {1}, "xy"}};
  directory_.Write("experts.safetensors", SafetensorsBytes(one));
  EXPECT_THAT(Error(), AllOf(HasSubstr("tensor 'model.norm.weight': expected it in "
                                       "rest.safetensors only, found it in experts.safetensors"),
                             HasSubstr("experts.safetensors: tensor "
                                       "'model.layers.0.block_sparse_moe.experts.0.w1.weight': "
                                       "expected it here, as the index says, found no such")));
  directory_.Write("experts.safetensors", SafetensorsBytes(unknown));
  EXPECT_THAT(Error(), HasSubstr("'unnamed.weight': expected every tensor of the shards"));
  std::filesystem::remove(directory_.PathOf("experts.safetensors"));
  EXPECT_THAT(Error(), HasSubstr("experts.safetensors: cannot open"));
}

TEST_F(SafetensorsCheckpointTest, FollowsLinksOfTheModelCache) {
  const TempDirectory cache;
  WriteShards(cache, tensors_, [](const StoredTensor&) { return "blob.safetensors"; });
  std::filesystem::create_symlink(cache.PathOf("blob.safetensors"),
                                  directory_.PathOf("blob.safetensors"));
  std::filesystem::create_symlink(cache.PathOf("model.safetensors.index.json"),
                                  directory_.PathOf("model.safetensors.index.json"));
  EXPECT_EQ(Error(), "");
}

}  // namespace
}  // namespace moed
