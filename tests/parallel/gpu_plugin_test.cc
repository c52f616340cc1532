#include "parallel/gpu_plugin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

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

TEST(GpuPlugin, TheDefaultIsTheBuildTreesOwnElseBesideTheProgram) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::read_symlink("/proc/self/exe").parent_path();
  const fs::path built = (folder / "../parallel/cuda/libmoed_cuda.so").lexically_normal();
  fs::remove(built);
  EXPECT_EQ(DefaultGpuPluginPath(), (folder / "libmoed_cuda.so").string());
  fs::create_directories(built.parent_path());
  std::ofstream(built).put('x');
  EXPECT_EQ(DefaultGpuPluginPath(), built.string());
  fs::remove(built);
}

}  // namespace
}  // namespace moed
