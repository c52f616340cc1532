// Each rank reads the replicated tensors and its own experts, and nothing else: seen in the page
// cache, and by taking the other experts away.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/checkpoint/model_weights.h"
#include "runtime/checkpoint/safetensors_checkpoint.h"
#include "tests/runtime/checkpoint/config_json.h"
#include "tests/runtime/checkpoint/reference_backend.h"
#include "tests/runtime/checkpoint/synthetic_checkpoint.h"
#include "tests/support/temp_directory.h"

namespace moed {
namespace {

constexpr int kNumRanks = 4;
constexpr int64_t kExpertBytes = int64_t{3} * 128 * 1024 * 2;  // 768 KiB
constexpr int64_t kNumExperts = 2 * 4;                         // over both layers

ModelConfig BigExpertsConfig() {
  return ParseModelConfig(AwkwardConfigJson({{"hidden_size", "128"},
                                             {"intermediate_size", "1024"},
                                             {"num_hidden_layers", "2"},
                                             {"num_local_experts", "4"},
                                             {"num_attention_heads", "4"},
                                             {"num_key_value_heads", "2"},
                                             {"num_experts_per_tok", "2"}}),
                          "config.json")
      .value();
}

// Experts first, in an order that puts experts of all ranks side by side, each at a page.
std::vector<StoredTensor> ExpertsFirst(const ModelConfig& config) {
  std::vector<StoredTensor> tensors = SyntheticTensors(config);
  std::stable_partition(tensors.begin(), tensors.end(), [](const StoredTensor& tensor) {
    return absl::StrContains(tensor.name, "experts");
  });
  return tensors;
}

// The page cache of one file, seen through a mapping that is itself never read.
class PageCacheView {
 public:
  explicit PageCacheView(const std::string& path)
      : descriptor_(open(path.c_str(), O_RDONLY | O_CLOEXEC)),
        bytes_(static_cast<size_t>(std::filesystem::file_size(path))),
        pages_(mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, descriptor_, 0)) {
    EXPECT_NE(pages_, MAP_FAILED);
  }
  ~PageCacheView() {
    munmap(pages_, bytes_);
    close(descriptor_);
  }

  // Asks the kernel to forget the file's pages; false where the file system cannot.
  bool Evict() {
    fsync(descriptor_);
    posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED);
    return NumResident(0, static_cast<int64_t>(bytes_)) == 0;
  }

  int64_t NumResident(int64_t begin, int64_t end) const {
    const int64_t page_bytes = sysconf(_SC_PAGESIZE);
    std::vector<unsigned char> resident(
        static_cast<size_t>((end - begin + page_bytes - 1) / page_bytes));
    EXPECT_EQ(mincore(static_cast<char*>(pages_) + begin, static_cast<size_t>(end - begin),
                      resident.data()),
              0);
    return std::count_if(resident.begin(), resident.end(),
                         [](unsigned char page) { return (page & 1) != 0; });
  }

 private:
  int descriptor_;
  size_t bytes_;
  void* pages_;
};

class ResidentPagesTest : public testing::Test {
 protected:
  // What one rank of a process of its own would load.
  absl::Status LoadRank(WeightSource& source, int rank, int64_t* source_bytes) {
    const auto backend = MakeReferenceBackend();
    const auto replicated = LoadReplicatedWeights(config_, source, *backend, nullptr);
    if (!replicated.ok()) return replicated.status();
    const auto experts = LoadExpertWeights(config_, placement_, rank, source, *backend, nullptr);
    if (!experts.ok()) return experts.status();
    *source_bytes = (*replicated)->summary.source_bytes + (*experts)->summary.source_bytes;
    return absl::OkStatus();
  }

  const ModelConfig config_ = BigExpertsConfig();
  const ExpertPlacement placement_ = ExpertPlacement::Even(2, 4, kNumRanks);
  TempDirectory directory_;
};

TEST_F(ResidentPagesTest, NoPageOfAForeignExpertIsEverRead) {
  const int64_t page_bytes = sysconf(_SC_PAGESIZE);
  const std::vector<StoredTensor> tensors = ExpertsFirst(config_);
  const std::string file = SafetensorsBytes(tensors, static_cast<size_t>(page_bytes));
  const std::string path = directory_.Write("model.safetensors", file);
  PageCacheView cache(path);
  if (!cache.Evict()) GTEST_SKIP() << "this file system does not give up cached pages";

  for (int rank = 0; rank < kNumRanks; ++rank) {
    ASSERT_TRUE(cache.Evict()) << "rank " << rank;
    const auto checkpoint = SafetensorsCheckpoint::Open(directory_.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    int64_t source_bytes = 0;
    const absl::Status status = LoadRank(**checkpoint, rank, &source_bytes);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ((*checkpoint)->loaded_bytes(), source_bytes);

    int64_t begin = static_cast<int64_t>(file.size());
    for (const StoredTensor& tensor : tensors) begin -= static_cast<int64_t>(tensor.bytes.size());
    for (const StoredTensor& tensor : tensors) {
      const int64_t end = begin + static_cast<int64_t>(tensor.bytes.size());
      int layer = 0;
      int expert = 0;
      if (sscanf(tensor.name.c_str(), "model.layers.%d.block_sparse_moe.experts.%d.", &layer,
                 &expert) == 2) {
        ASSERT_EQ(begin % page_bytes, 0);
        const bool own = placement_.RankOf(layer, expert) == rank;
        EXPECT_EQ(cache.NumResident(begin, end), own ? (end - begin) / page_bytes : 0)
            << "rank " << rank << ", " << (own ? "own " : "foreign ") << tensor.name;
      }
      begin = end;
    }
  }
}

TEST_F(ResidentPagesTest, BytesPerRankAreReplicatedTensorsAndItsShareOfTheExperts) {
  const std::vector<StoredTensor> tensors = ExpertsFirst(config_);
  directory_.Write("model.safetensors", SafetensorsBytes(tensors));
  int64_t total = 0;
  for (const StoredTensor& tensor : tensors) total += static_cast<int64_t>(tensor.bytes.size());
  const int64_t replicated = total - kNumExperts * kExpertBytes;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    const auto checkpoint = SafetensorsCheckpoint::Open(directory_.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    int64_t source_bytes = 0;
    ASSERT_TRUE(LoadRank(**checkpoint, rank, &source_bytes).ok());
    EXPECT_EQ(source_bytes, replicated + kNumExperts / kNumRanks * kExpertBytes) << rank;
    EXPECT_EQ((*checkpoint)->loaded_bytes(), source_bytes) << rank;
  }
}

// Holds on any file system: each rank's experts have a file of their own, and once the headers are
// read the files of all other ranks are cut off behind them. Reading there would be an error.
TEST_F(ResidentPagesTest, ARankLoadsWithTheOtherRanksExpertsTakenAway) {
  const std::vector<StoredTensor> tensors = SyntheticTensors(config_);
  const auto shard_of = [&](const StoredTensor& tensor) -> std::string {
    int layer = 0;
    int expert = 0;
    const bool is_expert =
        sscanf(tensor.name.c_str(), "model.layers.%d.block_sparse_moe.experts.%d.", &layer,
               &expert) == 2;
    return is_expert ? absl::StrCat("rank", placement_.RankOf(layer, expert), ".safetensors")
                     : "rest.safetensors";
  };
  for (int rank = 0; rank < kNumRanks; ++rank) {
    WriteShards(directory_, tensors, shard_of);
    const auto checkpoint = SafetensorsCheckpoint::Open(directory_.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    for (int other = 0; other < kNumRanks; ++other) {
      if (other == rank) continue;
      std::filesystem::resize_file(directory_.PathOf(absl::StrCat("rank", other, ".safetensors")),
                                   16);
    }
    int64_t source_bytes = 0;
    const absl::Status status = LoadRank(**checkpoint, rank, &source_bytes);
    EXPECT_TRUE(status.ok()) << status;
    // The proof can fail: another rank's load meets the cut file.
    EXPECT_EQ(LoadRank(**checkpoint, (rank + 1) % kNumRanks, &source_bytes).code(),
              absl::StatusCode::kFailedPrecondition);
  }
}

}  // namespace
}  // namespace moed
