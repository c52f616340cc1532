#include "kernels/cpu/cpu_backend.h"

#include <limits>

#include "gmock/gmock.h"
#include "kernels/cpu/cpu_features.h"
#include "tests/kernels/cpu/kernel_test.h"

namespace moed {
namespace {

using testing::HasSubstr;

TEST(CpuIsaTest, EveryNameParsesWhereTheCpuSupportsIt) {
  for (const CpuIsa isa : {CpuIsa::kReference, CpuIsa::kPortable, CpuIsa::kAvx512Bf16}) {
    const auto parsed = ParseCpuIsa(CpuIsaName(isa));
    if (CpuSupports(isa)) {
      ASSERT_TRUE(parsed.ok()) << parsed.status();
      EXPECT_EQ(*parsed, isa);
    } else {
      EXPECT_EQ(parsed.status().code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("AVX-512"));
      EXPECT_FALSE(MakeCpuBackend({isa, DType::kFloat32, nullptr}).ok());
    }
  }
  const auto fastest = ParseCpuIsa("auto");
  ASSERT_TRUE(fastest.ok());
  EXPECT_EQ(*fastest, CpuSupports(CpuIsa::kAvx512Bf16) ? CpuIsa::kAvx512Bf16 : CpuIsa::kPortable);
}

TEST(CpuIsaTest, AnUnknownNameIsRefused) {
  const auto parsed = ParseCpuIsa("sse9");
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("\"sse9\""));
}

TEST(CpuBackendTest, OtherActivationDtypesAreRefused) {
  const auto backend = MakeCpuBackend({CpuIsa::kPortable, DType::kFloat16, nullptr});
  EXPECT_EQ(backend.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(backend.status().message()), HasSubstr("float16"));
}

TEST(CpuBackendTest, TheDescriptionNamesKernelsDtypeAndThreads) {
  const auto backend =
      MakeCpuBackend({CpuIsa::kPortable, DType::kBFloat16, std::make_shared<ThreadPool>(2)});
  ASSERT_TRUE(backend.ok());
  EXPECT_THAT((*backend)->Description(), HasSubstr("bfloat16, 2 threads"));
}

TEST(CpuMemoryTest, BytesAreCountedByKindUntilTheyAreReturned) {
  const auto backend = MakeCpuBackend({CpuIsa::kPortable, DType::kFloat32, nullptr});
  ASSERT_TRUE(backend.ok());
  EXPECT_EQ((*backend)->allocated_bytes(MemoryKind::kWeights), 0);
  {
    const auto buffer = (*backend)->Allocate(MemoryKind::kKvCache, 1000);
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0U);
    EXPECT_EQ((*backend)->allocated_bytes(MemoryKind::kKvCache), 1000);
    const Tensor w = Tensor::Random(DType::kFloat32, {3, 4}, 1);
    const auto weight = (*backend)->PackLinear({w});
    ASSERT_TRUE(weight.ok());
    EXPECT_EQ((*backend)->allocated_bytes(MemoryKind::kWeights), (*weight)->bytes());
    EXPECT_GE((*weight)->bytes(), 3 * 4 * 4);
    EXPECT_EQ((*weight)->in_features(), 4);
    EXPECT_EQ((*weight)->out_features(), 3);
  }
  EXPECT_EQ((*backend)->allocated_bytes(MemoryKind::kKvCache), 0);
  EXPECT_EQ((*backend)->allocated_bytes(MemoryKind::kWeights), 0);
}

TEST(CpuMemoryTest, AbsurdSizesAreRefusedWithNumbers) {
  const auto backend = MakeCpuBackend({CpuIsa::kPortable, DType::kFloat32, nullptr});
  ASSERT_TRUE(backend.ok());
  for (const int64_t bytes : {int64_t{1} << 55, std::numeric_limits<int64_t>::max()}) {
    const auto refused = (*backend)->Allocate(MemoryKind::kKvCache, bytes);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr(std::to_string(bytes)));
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("KV cache"));
  }
  EXPECT_EQ((*backend)->Allocate(MemoryKind::kWeights, -1).status().code(),
            absl::StatusCode::kInvalidArgument);
  WorkspaceLimits limits = TestLimits();
  limits.ffn = int64_t{1} << 60;
  EXPECT_EQ((*backend)->PrepareWorkspace(limits).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ((*backend)->WorkspaceBytes(limits).value(), std::numeric_limits<int64_t>::max());
  limits.ffn = -1;
  EXPECT_EQ((*backend)->PrepareWorkspace(limits).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ((*backend)->WorkspaceBytes(limits).status().code(), absl::StatusCode::kInvalidArgument);
}

using WorkspaceTest = KernelTest;
INSTANTIATE_TEST_SUITE_P(Kernels, WorkspaceTest, testing::ValuesIn(AllKernelCases()),
                         KernelCaseName);

TEST_P(WorkspaceTest, TakesWhatItSays) {
  WorkspaceLimits limits = TestLimits();
  for (const int64_t rows : {int64_t{700}, int64_t{1}, int64_t{5000}}) {
    limits.max_rows = rows;
    limits.max_expert_rows = 2 * rows;
    const int64_t before = backend_->allocated_bytes(MemoryKind::kWorkspace);
    const absl::StatusOr<int64_t> planned = backend_->WorkspaceBytes(limits);
    ASSERT_TRUE(planned.ok()) << planned.status();
    EXPECT_EQ(backend_->allocated_bytes(MemoryKind::kWorkspace), before);
    ASSERT_TRUE(backend_->PrepareWorkspace(limits).ok());
    EXPECT_EQ(backend_->allocated_bytes(MemoryKind::kWorkspace), *planned) << rows;
  }
}

using CheckArgsDeathTest = KernelTest;
INSTANTIATE_TEST_SUITE_P(Kernels, CheckArgsDeathTest,
                         testing::Values(KernelCase{Kernels::kReference, DType::kBFloat16},
                                         KernelCase{Kernels::kPortable, DType::kBFloat16}),
                         KernelCaseName);

TEST_P(CheckArgsDeathTest, AWrongViewIsNamedWithBothShapes) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const Tensor x = Tensor::Random(DType::kFloat32, {2, 8}, 1);
  const Tensor weight = Tensor::Random(DType::kFloat32, {8}, 1);
  Tensor wrong(DType::kFloat32, {2, 8});
  EXPECT_DEATH(backend_->RmsNorm(*stream_, {x, {}, weight, 1e-5F, wrong.view()}),
               "RmsNorm: out is float32\\[2, 8\\], expected bfloat16\\[2, 8\\]");
}

TEST_P(CheckArgsDeathTest, ATokenIdOutsideTheTableIsCaught) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const Tensor table = Tensor::Random(DType::kBFloat16, {4, 8}, 1);
  const Tensor tokens = Tensor::Ints({1}, {4});
  const Tensor slots = Tensor::Ints({1}, {0});
  Tensor out(DType::kFloat32, {1, 8});
  EXPECT_DEATH(backend_->Embed(*stream_, {tokens, slots, table, out.view()}), "token id");
}

}  // namespace
}  // namespace moed
