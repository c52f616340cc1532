#include "parallel/gpu_plugin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tests/support/temp_directory.h"

namespace moed {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;

std::string PluginPath(const std::string& name) {
  return absl::StrCat(MOED_TEST_PLUGINS, "/libmoed_", name, "_plugin.so");
}

absl::Status ErrorOf(const std::string& path) { return OpenGpuPlugin(path).status(); }

TEST(GpuPlugin, ASoundOneGivesItsPlatform) {
  const auto platform = OpenGpuPlugin(PluginPath("sound"));
  ASSERT_TRUE(platform.ok()) << platform.status();
  EXPECT_EQ((*platform)->Description(), "a fake platform");
}

TEST(GpuPlugin, OpenedTwiceItGivesAPlatformEachTime) {
  const auto first = OpenGpuPlugin(PluginPath("sound"));
  const auto second = OpenGpuPlugin(PluginPath("sound"));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_NE(first->get(), second->get());
}

TEST(GpuPlugin, AFileThatIsNotThereIsNotFound) {
  const absl::Status status = ErrorOf(PluginPath("absent"));
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr(PluginPath("absent")));
}

TEST(GpuPlugin, AFileThatIsNoLibraryIsRefusedWithTheLoadersWords) {
  const std::string path = ::testing::TempDir() + "no_library.so";
  std::ofstream(path) << "not a library";
  const absl::Status status = ErrorOf(path);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("cannot be loaded"), HasSubstr(path)));
  std::filesystem::remove(path);
}

TEST(GpuPlugin, OneThatLacksWhatItNeedsIsRefusedWithTheLoadersWords) {
  const absl::Status status = ErrorOf(PluginPath("missing_library"));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("moed_test_missing_symbol"));
}

TEST(GpuPlugin, ALibraryWithoutTheEntryIsRefused) {
  const absl::Status status = ErrorOf(PluginPath("no_entry"));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), EndsWith("has no moed_gpu_plugin"));
}

TEST(GpuPlugin, AnotherAbiIsRefusedWithBothNumbersAndItsRelease) {
  const absl::Status status = ErrorOf(PluginPath("other_abi"));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(absl::StrCat("(moed 9.8.7) has ABI ", kGpuPluginAbi + 7, ", this program ",
                                     kGpuPluginAbi)));
}

TEST(GpuPlugin, IsFoundWhereItIsBuiltOrInstalledElseBesideTheProgram) {
  const TempDirectory tree;
  const auto found_from = [&tree](const std::string& folder) {
    std::filesystem::create_directories(tree.PathOf(folder));
    return GpuPluginPathFor(tree.PathOf(folder));
  };
  const auto put_into = [&tree](const std::string& folder) {
    std::filesystem::create_directories(tree.PathOf(folder));
    return tree.Write(folder + "/libmoed_cuda.so", "");
  };
  EXPECT_EQ(found_from("build/server"), tree.PathOf("build/server/libmoed_cuda.so"));
  const std::string built = put_into("build/parallel/cuda");
  EXPECT_EQ(found_from("build/server"), built);
  EXPECT_EQ(found_from("build/tests/bench"), built) << "of moed_step_bench";
  const std::string installed = put_into("usr/lib/moed");
  EXPECT_EQ(found_from("usr/bin"), installed);
  const std::string beside = put_into("usr/bin");
  EXPECT_EQ(found_from("usr/bin"), beside) << "comes first";
}

TEST(GpuPlugin, TheDefaultIsThisProgramsOwn) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  EXPECT_EQ(DefaultGpuPluginPath(), GpuPluginPathFor(program.substr(0, program.rfind('/'))));
}

}  // namespace
}  // namespace moed
