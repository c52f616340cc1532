#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/finite_weights.h"
#include "runtime/checkpoint/weight_digests.h"
#include "tests/runtime/checkpoint/config_json.h"
#include "tests/runtime/checkpoint/synthetic_checkpoint.h"
#include "tests/support/temp_directory.h"

namespace moed {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Of "abc" and of nothing (FIPS 180-4's examples).
constexpr char kAbcDigest[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr char kEmptyDigest[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

bool GoOn(double /*fraction*/) { return true; }

TEST(FirstNonFinite, FindsTheFirstOfEachDType) {
  std::vector<float> floats(10000, 1.0F);
  std::vector<uint16_t> halves(10000, 0x3C00);
  const auto view_of = [](void* data, DType dtype) {
    return ConstTensorView(data, dtype, {100, 100});
  };
  EXPECT_EQ(FirstNonFinite(view_of(floats.data(), DType::kFloat32)), std::nullopt);
  EXPECT_EQ(FirstNonFinite(view_of(halves.data(), DType::kFloat16)), std::nullopt);
  EXPECT_EQ(FirstNonFinite(view_of(halves.data(), DType::kBFloat16)), std::nullopt);
  floats[9999] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(FirstNonFinite(view_of(floats.data(), DType::kFloat32)), 9999);
  floats[4096] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(FirstNonFinite(view_of(floats.data(), DType::kFloat32)), 4096);
  halves[0] = 0x7C01;  // NaN as float16, a number as bfloat16
  EXPECT_EQ(FirstNonFinite(view_of(halves.data(), DType::kFloat16)), 0);
  EXPECT_EQ(FirstNonFinite(view_of(halves.data(), DType::kBFloat16)), std::nullopt);
  halves[7] = 0xFF80;
  EXPECT_EQ(FirstNonFinite(view_of(halves.data(), DType::kBFloat16)), 7);
}

TEST(FirstNonFinite, TheGreatestAndLeastNumbersAreFinite) {
  std::vector<float> floats = {std::numeric_limits<float>::max(), -0.0F,
                               std::numeric_limits<float>::denorm_min()};
  EXPECT_EQ(FirstNonFinite(ConstTensorView(floats.data(), DType::kFloat32, {3})), std::nullopt);
}

TEST(DigestFile, ReadsWhatSha256sumWrites) {
  const auto digests = ParseDigestFile(
      absl::StrCat(kAbcDigest, "  a.safetensors\n", kEmptyDigest, " *b c.safetensors\r\n"), "S");
  ASSERT_TRUE(digests.ok()) << digests.status();
  EXPECT_EQ(digests->size(), 2u);
  EXPECT_EQ(digests->at("a.safetensors")[0], 0xba);
  EXPECT_EQ(digests->at("b c.safetensors")[31], 0x55);
}

TEST(DigestFile, RefusesOtherLinesByTheirNumber) {
  for (const std::string& line :
       {std::string("abc  a"), absl::StrCat(kAbcDigest, "  "), absl::StrCat(kAbcDigest, "\ta"),
        absl::StrCat("x", std::string(kAbcDigest).substr(1), "  a"), std::string(70, '\0'),
        absl::StrCat(kEmptyDigest, "  twice")}) {
    const auto digests =
        ParseDigestFile(absl::StrCat(kAbcDigest, "  twice\n", line, "\n"), "SHA256SUMS");
    EXPECT_EQ(digests.status().code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_THAT(std::string(digests.status().message()), HasSubstr("SHA256SUMS: line 2")) << line;
  }
}

TEST(VerifyDigests, ComparesEveryFileThatIsAskedFor) {
  TempDirectory directory;
  directory.Write("a", "abc");
  directory.Write("b", "");
  EXPECT_TRUE(VerifyDigests(directory.path(), {"a", "b"}, GoOn).ok()) << "no digest file: no check";
  directory.Write(kDigestFile, absl::StrCat(kAbcDigest, "  a\n", kEmptyDigest, "  b\n"));
  EXPECT_TRUE(VerifyDigests(directory.path(), {"a", "b"}, GoOn).ok());
  const absl::Status missing = VerifyDigests(directory.path(), {"a", "c"}, GoOn);
  EXPECT_EQ(missing.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("'c'"));
  directory.Write("a", "abd");
  const absl::Status changed = VerifyDigests(directory.path(), {"a", "b"}, GoOn);
  EXPECT_EQ(changed.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(changed.message()), AllOf(HasSubstr("/a: "), HasSubstr(kAbcDigest)));
}

TEST(VerifyDigests, TellsHowFarItIsAndCanBeStopped) {
  TempDirectory directory;
  directory.Write("a", "abc");
  directory.Write(kDigestFile, absl::StrCat(kAbcDigest, "  a\n"));
  double last = 0;
  EXPECT_TRUE(VerifyDigests(directory.path(), {"a"}, [&](double fraction) {
                last = fraction;
                return true;
              }).ok());
  EXPECT_EQ(last, 1.0);
  EXPECT_EQ(VerifyDigests(directory.path(), {"a"}, [](double) { return false; }).code(),
            absl::StatusCode::kCancelled);
}

class VerifyCheckpointTest : public testing::Test {
 protected:
  VerifyCheckpointTest() {
    directory_.Write("config.json", AwkwardConfigJson());
    const auto config = ParseModelConfig(AwkwardConfigJson(), "config.json");
    tensors_ = SyntheticTensors(*config);
  }

  void WriteWeights() { directory_.Write("model.safetensors", SafetensorsBytes(tensors_)); }

  absl::StatusOr<Checkpoint> Open() {
    CheckpointOptions options;
    options.verify = true;
    return Checkpoint::Open(directory_.path(), options);
  }

  TempDirectory directory_;
  std::vector<StoredTensor> tensors_;
};

TEST_F(VerifyCheckpointTest, ATensorWithANaNIsRefusedWithFileTensorAndPlace) {
  StoredTensor& bad = tensors_[tensors_.size() / 2];
  const uint16_t nan = 0x7FC0;
  std::memcpy(bad.bytes.data() + 2 * 5, &nan, sizeof(nan));
  WriteWeights();
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  for (const StoredTensor& tensor : tensors_) {
    const absl::Status status = checkpoint->weights->Load(tensor.name, tensor.shape).status();
    if (tensor.name != bad.name) {
      EXPECT_TRUE(status.ok()) << status;
      continue;
    }
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("model.safetensors"), HasSubstr(bad.name), HasSubstr("element 5")));
  }
}

TEST_F(VerifyCheckpointTest, AShardWithAnotherDigestIsRefusedByName) {
  WriteWeights();
  EXPECT_TRUE(Open().ok());
  directory_.Write(kDigestFile, absl::StrCat(kAbcDigest, "  model.safetensors\n"));
  const absl::Status status = Open().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("model.safetensors"));
  EXPECT_TRUE(Checkpoint::Open(directory_.path(), {}).ok()) << "only where it is asked for";
}

TEST_F(VerifyCheckpointTest, MadeUpWeightsCannotBeVerified) {
  CheckpointOptions options;
  options.format = LoadFormat::kDummy;
  options.verify = true;
  EXPECT_EQ(Checkpoint::Open(directory_.path(), options).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace moed
