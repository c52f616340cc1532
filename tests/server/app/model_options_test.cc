#include "server/app/model_options.h"

#include <filesystem>

#include "gtest/gtest.h"
#include "server/app/exit_code.h"
#include "server/app/load_reporter.h"
#include "server/app/start_report.h"

namespace moed {
namespace {

ModelConfig SmallConfig() {
  ModelConfig config;
  config.num_layers = 2;
  config.num_kv_heads = 2;
  config.head_dim = 8;
  config.max_positions = 100;
  return config;
}

TEST(ModelOptionsTest, AutoTakesTheCheckpointsTypeAndNeverRoundsFloat16) {
  DaemonOptions options;
  ModelConfig config;
  config.checkpoint_dtype = DType::kBFloat16;
  EXPECT_EQ(*ActivationDType(options, config), DType::kBFloat16);
  config.checkpoint_dtype = DType::kFloat32;
  EXPECT_EQ(*ActivationDType(options, config), DType::kFloat32);
  config.checkpoint_dtype = DType::kFloat16;
  EXPECT_EQ(*ActivationDType(options, config), DType::kFloat32);
  options.dtype = "bfloat16";
  EXPECT_EQ(*ActivationDType(options, config), DType::kBFloat16);
}

TEST(ModelOptionsTest, TheModelIsNamedAfterItsDirectory) {
  DaemonOptions options;
  options.model = "some/where/mixtral/";
  EXPECT_EQ(ModelName(options), "mixtral");
  options.model = "some/where/./mixtral";
  EXPECT_EQ(ModelName(options), "mixtral");
  options.model = "some/where/../mixtral";
  EXPECT_EQ(ModelName(options), "mixtral");
  options.model_name = "other";
  EXPECT_EQ(ModelName(options), "other");
}

TEST(ModelOptionsTest, ASymbolicLinkGivesItsOwnName) {
  const auto directory =
      std::filesystem::path(::testing::TempDir()) / "moed_model_options_test_link";
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory / "snapshot-1234");
  std::filesystem::create_directory_symlink("snapshot-1234", directory / "mixtral");
  DaemonOptions options;
  options.model = (directory / "mixtral").string();
  EXPECT_EQ(ModelName(options), "mixtral");
  options.model += "/config.json";
  std::filesystem::copy_file(std::string(MOED_SOURCE_DIR) + "/models/demo/config.json",
                             options.model);
  EXPECT_EQ(ModelName(options), "mixtral");
  std::filesystem::remove_all(directory);
}

TEST(ModelOptionsTest, SizesTheCacheForFullContextsByDefault) {
  DaemonOptions options;
  options.block_size = 16;
  options.max_sequences = 3;
  EXPECT_EQ(*KvBlocksPerRank(options, SmallConfig(), DType::kFloat32), 7 * 3);
}

TEST(ModelOptionsTest, SizesTheCacheAsTold) {
  DaemonOptions options;
  options.block_size = 16;
  const int64_t block_bytes = SmallConfig().kv_bytes_per_token(DType::kFloat32) * 16;
  options.kv_cache_bytes = 5 * block_bytes + 1;
  EXPECT_EQ(*KvBlocksPerRank(options, SmallConfig(), DType::kFloat32), 5);
  options.kv_blocks = 9;
  EXPECT_EQ(*KvBlocksPerRank(options, SmallConfig(), DType::kFloat32), 9);
}

TEST(ModelOptionsTest, ACacheWithoutABlockIsTooLittleMemory) {
  DaemonOptions options;
  options.kv_cache_bytes = 1;
  const absl::Status status = KvBlocksPerRank(options, SmallConfig(), DType::kFloat32).status();
  EXPECT_EQ(ExitCodeOf(status.code()), kExitUnavailable) << status;
}

TEST(ModelOptionsTest, MoreExpertsPerTokenLieBetweenTheModelsAndAll) {
  DaemonOptions options;
  ModelConfig config;
  config.top_k = 2;
  config.num_experts = 8;
  for (const int32_t fine : {0, 2, 8}) {
    options.limits.experts_per_token = fine;
    EXPECT_TRUE(CheckExpertsPerToken(options, config).ok()) << fine;
  }
  for (const int32_t wrong : {1, 9}) {
    options.limits.experts_per_token = wrong;
    const absl::Status status = CheckExpertsPerToken(options, config);
    EXPECT_EQ(ExitCodeOf(status.code()), kExitConfig) << status;
  }
}

TEST(ModelOptionsTest, HandsOnWhatTheEngineDecides) {
  DaemonOptions options;
  EXPECT_TRUE(MakeEngineOptions(options).prefix_cache);
  EXPECT_EQ(MakeEngineOptions(options).priority_ageing, std::chrono::seconds(1));
  EXPECT_FALSE(MakeEngineOptions(options).keeps_token_statistics);
  options.no_prefix_cache = true;
  options.priority_ageing_seconds = 0.25;
  options.expert_token_statistics = true;
  EXPECT_FALSE(MakeEngineOptions(options).prefix_cache);
  EXPECT_EQ(MakeEngineOptions(options).priority_ageing, std::chrono::milliseconds(250));
  EXPECT_TRUE(MakeEngineOptions(options).keeps_token_statistics);
}

TEST(StartReportTest, WritesBytesForPeople) {
  EXPECT_EQ(FormatBytes(12), "12 bytes");
  EXPECT_EQ(FormatBytes(1536), "1.50 KiB");
  EXPECT_EQ(FormatBytes(int64_t{3} << 30), "3.00 GiB");
}

TEST(LoadReporterTest, TellsClientsWhereTheSlowestRankIs) {
  Log log("json", "error");
  ServingState state;
  LoadReporter reporter(&log, &state);
  reporter.Report({.rank = 0, .phase = "replicated weights", .fraction = 0.5});
  reporter.Report({.rank = 0, .phase = "expert weights", .fraction = 0.25});
  reporter.Report({.rank = 1, .phase = "replicated weights", .fraction = 0.75});
  EXPECT_EQ(state.Get().status(),
            absl::UnavailableError("the model is loading (rank 1: replicated weights 75 %)"));
  reporter.Report({.rank = 1, .phase = "expert weights", .fraction = 1});
  EXPECT_EQ(state.Get().status(),
            absl::UnavailableError("the model is loading (rank 0: expert weights 25 %)"));
}

TEST(LoadReporterTest, SaysNothingMoreOnceTheDaemonShutsDown) {
  Log log("json", "error");
  ServingState state;
  LoadReporter reporter(&log, &state);
  state.Close("the server is shutting down");
  reporter.Report({.rank = 0, .phase = "expert weights", .fraction = 0.5});
  EXPECT_EQ(state.Get().status(), absl::UnavailableError("the server is shutting down"));
}

}  // namespace
}  // namespace moed
