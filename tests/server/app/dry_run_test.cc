#include "server/app/dry_run.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(DryRunTest, WarnsAsALoadDoes) {
  const std::string demo = std::string(MOED_SOURCE_DIR) + "/models/demo/config.json";
  std::stringstream text;
  text << std::ifstream(demo).rdbuf();
  std::string config = text.str();
  ASSERT_EQ(config.front(), '{');
  config.insert(1, "\"no_such_field\": 1,");
  const auto directory = std::filesystem::path(::testing::TempDir()) / "moed_dry_run_test_warns";
  std::filesystem::create_directories(directory);
  std::ofstream(directory / "config.json") << config;
  DaemonOptions options;
  options.model = (directory / "config.json").string();
  options.load_format = "dummy";
  const absl::StatusOr<std::string> plan = DryRun(options);
  std::filesystem::remove_all(directory);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(*plan, HasSubstr("warning: "));
  EXPECT_THAT(*plan, HasSubstr("no_such_field"));
}

TEST(DryRunTest, PlansTheEmulatedRankAlone) {
  DaemonOptions options;
  options.model = std::string(MOED_SOURCE_DIR) + "/models/demo/config.json";
  options.load_format = "dummy";
  options.emulate_rank = "1/3";
  options.rank_memory_bytes = 6'000'000;
  const absl::StatusOr<std::string> plan = DryRun(options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(*plan, HasSubstr("\n1 rank, "));
  EXPECT_THAT(*plan, HasSubstr(" 11 of 32, "));
  EXPECT_THAT(*plan, Not(HasSubstr("DOES NOT FIT")));
  // All experts are more than that.
  options.emulate_rank.clear();
  const absl::StatusOr<std::string> alone = DryRun(options);
  ASSERT_TRUE(alone.ok()) << alone.status();
  EXPECT_THAT(*alone, HasSubstr("DOES NOT FIT"));
}

}  // namespace
}  // namespace moed
