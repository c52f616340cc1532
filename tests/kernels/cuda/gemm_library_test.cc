// Which products go to cuBLASLt, and what becomes of those that it does not compute.
#include "gmock/gmock.h"
#include "tests/cuda_host/host_gemm.h"
#include "tests/cuda_host/launch_log.h"
#include "tests/kernels/cuda/gemm_fixture.h"

namespace moed::cuda {
namespace {

using testing::HasSubstr;

int64_t Calls(const std::string& function) { return cuda_host::GemmCallCounts()[function]; }

class GemmLibraryTest : public GemmTest {
 protected:
  static constexpr int64_t kIn = 48;
  static constexpr int64_t kOut = 24;

  GemmLibraryTest() { cuda_host::SetGemm(); }
  ~GemmLibraryTest() override { cuda_host::SetGemm(); }

  void SetUp() override {
    library_ = MakeKernels(&cuda_host::HostGemmApi(), false);
    ASSERT_TRUE(library_->PrepareWorkspace(SmallLimits()).ok());
    weight_ = Tensor::Random(act(), {kOut, kIn}, 2);
    packed_ = Pack(*library_, weight_);
    cuda_host::ResetGemmCallCounts();
    cuda_host::ResetLaunchCounts();
  }

  // Computes m rows; they must be near those of our own kernels.
  void Multiply(int64_t m, bool accumulate = false) {
    const Tensor x = Tensor::Random(act(), {m, kIn}, 1);
    const Tensor out = Tensor::Random(DType::kFloat32, {m, kOut}, 3);
    const Tensor got = Linear(*library_, x, *packed_, out, accumulate);
    const Tensor want = ReferenceLinear(x, weight_, out, accumulate);
    for (int64_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(got.at(i), want.at(i), 1e-4) << "m = " << m << ", element " << i;
    }
  }
  static int64_t OwnLaunches() {
    const auto counts = cuda_host::LaunchCounts();
    int64_t launches = 0;
    for (const char* kernel : {"StreamGemm", "TileGemm"}) {
      if (const auto place = counts.find(kernel); place != counts.end()) launches += place->second;
    }
    return launches;
  }

  std::unique_ptr<GemmKernels> library_;
  Tensor weight_;
  std::unique_ptr<LinearWeight> packed_;
};
INSTANTIATE_TEST_SUITE_P(Gemm, GemmLibraryTest,
                         testing::Values(GemmCase{DType::kFloat32, false},
                                         GemmCase{DType::kBFloat16, false}),
                         GemmCaseName);

TEST_P(GemmLibraryTest, ManyRowsGoToTheLibraryAndFewDoNot) {
  Multiply(64);
  EXPECT_EQ(Calls("multiply"), 0);
  EXPECT_EQ(OwnLaunches(), 1);
  Multiply(65);
  Multiply(65, true);
  EXPECT_EQ(Calls("multiply"), 2);
  EXPECT_EQ(OwnLaunches(), 1);
}

TEST_P(GemmLibraryTest, AlgorithmsAreFoundBeforeTheFirstStep) {
  for (const int64_t m : {65, 100, 128, 129, 256}) Multiply(m);
  EXPECT_EQ(Calls("multiply"), 5);
  EXPECT_EQ(Calls("find_algorithms"), 0);
}

TEST_P(GemmLibraryTest, AWeightThatAnotherBackendPackedFindsItsAlgorithmOnce) {
  auto other = MakeKernels(&cuda_host::HostGemmApi(), false);
  ASSERT_TRUE(other->PrepareWorkspace(SmallLimits()).ok());
  library_.swap(other);
  cuda_host::ResetGemmCallCounts();
  for (int i = 0; i < 3; ++i) Multiply(100);
  EXPECT_EQ(Calls("find_algorithms"), 1);
  EXPECT_EQ(Calls("is_usable"), 1) << "100 rows are in the bucket of 128";
  EXPECT_EQ(Calls("multiply"), 3);
}

TEST_P(GemmLibraryTest, ReplicatedWeightsThatAnotherRankPackedArePreparedToo) {
  const WorkspaceLimits limits = SmallLimits();
  const Tensor head = Tensor::Random(act(), {limits.vocab, limits.hidden}, 4);
  const std::unique_ptr<LinearWeight> packed = Pack(*library_, head);
  const auto other = MakeKernels(&cuda_host::HostGemmApi(), false);
  ASSERT_TRUE(other->PrepareWorkspace(limits).ok());
  cuda_host::ResetGemmCallCounts();
  Linear(*other, Tensor::Random(act(), {100, limits.hidden}, 1), *packed,
         Tensor::Random(DType::kFloat32, {100, limits.vocab}, 3), false);
  EXPECT_EQ(Calls("find_algorithms"), 0);
  EXPECT_EQ(Calls("multiply"), 1);
}

TEST_P(GemmLibraryTest, WeightsPackedBeforeTheWorkspaceArePreparedWithIt) {
  ASSERT_TRUE(library_->PrepareWorkspace(SmallLimits()).ok());
  EXPECT_GT(Calls("find_algorithms"), 0);
  cuda_host::ResetGemmCallCounts();
  Multiply(200);
  EXPECT_EQ(Calls("find_algorithms"), 0);
}

TEST_P(GemmLibraryTest, OurKernelsComputeWhatTheLibraryHasNoAlgorithmFor) {
  cuda_host::SetGemm({.max_found = 0});
  ASSERT_TRUE(library_->PrepareWorkspace(SmallLimits()).ok());
  Multiply(100, true);
  EXPECT_EQ(Calls("multiply"), 0);
  EXPECT_EQ(OwnLaunches(), 1);
}

TEST_P(GemmLibraryTest, OurKernelsComputeWhatTheAlgorithmOfTheBucketCannot) {
  cuda_host::SetGemm({.max_usable_m = 90});
  Multiply(80);
  EXPECT_EQ(Calls("multiply"), 1);
  Multiply(100);
  EXPECT_EQ(Calls("multiply"), 1);
  EXPECT_EQ(OwnLaunches(), 1);
  Multiply(80);
  EXPECT_EQ(Calls("multiply"), 2);
}

TEST_P(GemmLibraryTest, DeterministicModeNeverAsksTheLibrary) {
  library_ = MakeKernels(&cuda_host::HostGemmApi(), true);
  cuda_host::ResetGemmCallCounts();
  ASSERT_TRUE(library_->PrepareWorkspace(SmallLimits()).ok());
  packed_ = Pack(*library_, weight_);
  Multiply(100);
  EXPECT_THAT(cuda_host::GemmCallCounts(), testing::IsEmpty());
}

TEST_P(GemmLibraryTest, AProductThatFailsIsNotedWithItsShape) {
  cuda_host::FailGemmCall("multiply", 1, 13);
  const Buffer x = UploadView(Tensor(act(), {65, kIn}));
  const Buffer out = UploadView(Tensor(DType::kFloat32, {65, kOut}));
  library_->Linear(stream(), {.x = x.View(act(), {65, kIn}),
                              .weight = packed_.get(),
                              .out = out.View(DType::kFloat32, {65, kOut})});
  const absl::Status status = stream().Synchronize();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("m = 65, n = 24, k = 48"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("(13)"));
}

TEST_P(GemmLibraryTest, ASearchThatFailsIsReported) {
  cuda_host::FailGemmCall("find_algorithms", 1, 14);
  const absl::Status status = library_->PrepareWorkspace(SmallLimits());
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("n = 24, k = 48"));
}

TEST_P(GemmLibraryTest, ALibraryThatDoesNotStartIsReported) {
  cuda_host::FailGemmCall("create", 1, 1);
  const auto kernels = GemmKernels::Create(memory(), &cuda_host::HostGemmApi(), act(), false);
  EXPECT_EQ(kernels.status().code(), absl::StatusCode::kInternal);
}

TEST_P(GemmLibraryTest, TheLibraryIsClosedAndItsMemoryGivenBack) {
  library_.reset();
  EXPECT_EQ(cuda_host::CountGemmHandles(), 0);
  const int64_t before = memory().allocated_bytes(MemoryKind::kWorkspace);
  library_ = MakeKernels(&cuda_host::HostGemmApi(), false);
  ASSERT_TRUE(library_->PrepareWorkspace(SmallLimits()).ok());
  EXPECT_GT(memory().allocated_bytes(MemoryKind::kWorkspace), before);
  library_.reset();
  EXPECT_EQ(memory().allocated_bytes(MemoryKind::kWorkspace), before);
}

}  // namespace
}  // namespace moed::cuda
