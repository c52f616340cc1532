#include "runtime/checkpoint/safetensors_file.h"

#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/core/float_types.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temp_directory.h"

namespace moed {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

std::vector<StoredTensor> SomeTensors() {
  return {{"bf", "BF16", {2, 2}, BytesOf<uint16_t>({0x3f80, 0x4000, 0x4040, 0x4080})},
          {"half", "F16", {3}, BytesOf<uint16_t>({0x3c00, 0x4000, 0x4200})},
          {"odd", "U8", {1}, "x"},
          {"single", "F32", {1, 2}, BytesOf<float>({1.5F, -2.5F})},
          {"bf_last", "BF16", {2}, BytesOf<uint16_t>({0x3f80, 0xc000})}};
}

TEST(SafetensorsFile, LoadsEachDTypeEvenWhereMisaligned) {
  const TempDirectory directory;
  const auto file =
      SafetensorsFile::Open(directory.Write("m.safetensors", SafetensorsBytes(SomeTensors())));
  ASSERT_TRUE(file.ok()) << file.status();
  const auto bf = file->Load("bf", {2, 2});
  ASSERT_TRUE(bf.ok()) << bf.status();
  EXPECT_EQ(bf->view.dim(1), 2);
  EXPECT_EQ(ToFloat(bf->view.data<BFloat16>()[3]), 4.0F);
  EXPECT_EQ(ToFloat(file->Load("half", {3})->view.data<Float16>()[2]), 3.0F);
  // After the single byte every place is odd.
  const auto single = file->Load("single", {1, 2});
  ASSERT_TRUE(single.ok()) << single.status();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(single->view.raw()) % alignof(float), 0U);
  EXPECT_EQ(single->view.data<float>()[1], -2.5F);
  EXPECT_EQ(ToFloat(file->Load("bf_last", {2})->view.data<BFloat16>()[1]), -2.0F);
}

TEST(SafetensorsFile, RefusesWrongNameShapeAndDType) {
  const TempDirectory directory;
  const std::string path = directory.Write("m.safetensors", SafetensorsBytes(SomeTensors()));
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(Message(file->Load("none", {2}).status()),
              AllOf(HasSubstr(path), HasSubstr("tensor 'none'"), HasSubstr("no such tensor")));
  EXPECT_THAT(Message(file->Load("bf", {4}).status()),
              HasSubstr("tensor 'bf': expected shape [4], found [2, 2]"));
  EXPECT_THAT(Message(file->Load("odd", {1}).status()),
              HasSubstr("tensor 'odd': expected dtype BF16, F16 or F32, found U8"));
}

TEST(SafetensorsFile, RefusesEveryTruncation) {
  const TempDirectory directory;
  const std::string whole = SafetensorsBytes(SomeTensors());
  const std::string path = directory.Write("m.safetensors", whole);
  for (size_t length = whole.size(); length-- > 0;) {
    std::filesystem::resize_file(path, length);
    const auto file = SafetensorsFile::Open(path);
    ASSERT_FALSE(file.ok()) << "cut to " << length << " of " << whole.size() << " bytes";
    EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(file.status()), AllOf(HasSubstr(path), HasSubstr("expected")));
  }
}

TEST(SafetensorsFile, RefusesHeaderLengthsBeyondTheFileOrTheLimit) {
  const TempDirectory directory;
  const auto error = [&](uint64_t length) {
    std::string bytes(8, '\0');
    for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(length >> (8 * i) & 0xff);
    return Message(SafetensorsFile::Open(directory.Write("m.safetensors", bytes + "{}")).status());
  };
  EXPECT_EQ(error(2), "");
  EXPECT_THAT(error(3), HasSubstr("expected a header of 3 bytes, found a file of 10"));
  EXPECT_THAT(error(100'000'000), HasSubstr("found a file of 10"));
  EXPECT_THAT(error(100'000'001), HasSubstr("at most 100000000 bytes, found 100000001"));
  EXPECT_THAT(error(uint64_t{1} << 63), HasSubstr("found 9223372036854775808"));
  EXPECT_THAT(error(~uint64_t{0}), HasSubstr("found 18446744073709551615"));
  EXPECT_THAT(error(0), HasSubstr("begins with '{'"));
}

TEST(SafetensorsFile, RefusesWhatIsNoRegularFileWithoutHanging) {
  const TempDirectory directory;
  EXPECT_EQ(SafetensorsFile::Open(directory.PathOf("none")).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(SafetensorsFile::Open(directory.path()).status()), HasSubstr("regular file"));
  const std::string pipe = directory.PathOf("pipe.safetensors");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(Message(SafetensorsFile::Open(pipe).status()), HasSubstr("regular file"));
}

TEST(SafetensorsFile, NoticesAFileThatShrankAfterOpening) {
  const TempDirectory directory;
  const std::string path = directory.Write("m.safetensors", SafetensorsBytes(SomeTensors()));
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  std::filesystem::resize_file(path, 20);
  const absl::Status status = file->Load("bf", {2, 2}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(status), AllOf(HasSubstr(path), HasSubstr("found 20")));
}

}  // namespace
}  // namespace moed
