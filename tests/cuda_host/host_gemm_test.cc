// The stand-in of cuBLASLt.
#include "tests/cuda_host/host_gemm.h"

#include <array>
#include <vector>

#include "gmock/gmock.h"
#include "tests/kernels/cuda/device_fixture.h"

namespace moed::cuda_host {
namespace {

using cuda::DeviceArray;
using cuda::GemmAlgorithm;
using cuda::GemmShape;
using testing::ElementsAre;

constexpr int64_t kWorkspaceBytes = 1 << 20;
constexpr int kInvalidValue = 7;
constexpr int kNotSupported = 15;

class HostGemmTest : public cuda::DeviceTest {
 protected:
  HostGemmTest() { EXPECT_EQ(gemm_.create(&handle_), 0); }
  ~HostGemmTest() override {
    SetGemm();
    EXPECT_EQ(gemm_.destroy(handle_), 0);
    EXPECT_EQ(CountGemmHandles(), 0);
  }

  std::vector<GemmAlgorithm> Find(const GemmShape& shape,
                                  int64_t max_workspace_bytes = kWorkspaceBytes) {
    std::array<GemmAlgorithm, 8> found;
    int count = -1;
    EXPECT_EQ(gemm_.find_algorithms(handle_, shape, max_workspace_bytes, 8, found.data(), &count),
              0);
    return {found.begin(), found.begin() + count};
  }
  int Multiply(const GemmShape& shape, const GemmAlgorithm& algorithm, const void* x, const void* w,
               void* out) {
    return gemm_.multiply(handle_, shape, algorithm, x, w, out, workspace_.data(), kWorkspaceBytes,
                          stream().handle());
  }

  const cuda::GemmApi& gemm_ = HostGemmApi();
  void* handle_ = nullptr;
  const DeviceArray<float> workspace_ = Make<float>(kWorkspaceBytes / 4);
};

constexpr GemmShape kFloats{.m = 5, .n = 6, .k = 200, .in_dtype = DType::kFloat32};

std::vector<float> Values(int64_t count, int seed) {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>((i * 37 + static_cast<size_t>(seed)) % 101) / 101.0F - 0.5F;
  }
  return values;
}

TEST_F(HostGemmTest, EveryAlgorithmMultipliesAndTheirLastBitsDiffer) {
  const std::vector<float> xs = Values(5 * 200, 1);
  const std::vector<float> ws = Values(6 * 200, 2);
  const auto x = Upload(xs);
  const auto w = Upload(ws);
  std::vector<std::vector<float>> results;
  for (const GemmAlgorithm& algorithm : Find(kFloats)) {
    const auto out = Make<float>(5 * 6);
    EXPECT_EQ(Multiply(kFloats, algorithm, x.data(), w.data(), out.data()), 0);
    EXPECT_GT(CountPendingOperations(), 0);
    results.push_back(Download(out));
    for (size_t i = 0; i < 30; ++i) {
      double want = 0;
      for (size_t k = 0; k < 200; ++k) want += double{xs[i / 6 * 200 + k]} * ws[i % 6 * 200 + k];
      EXPECT_NEAR(results.back()[i], want, 1e-4);
    }
  }
  ASSERT_EQ(results.size(), 3U);
  EXPECT_NE(results[0], results[1]);
  EXPECT_NE(results[1], results[2]);
}

TEST_F(HostGemmTest, ResultsAreAddedOrRoundedAsAsked) {
  const auto x = Upload<BFloat16>({ToBFloat16(3.0F), ToBFloat16(1.0F)});
  const auto w = Upload<BFloat16>({ToBFloat16(2.0F), ToBFloat16(0.5F)});
  const GemmShape sum{.m = 1, .n = 1, .k = 2, .accumulate = true};
  const auto floats = Upload<float>({10.0F});
  EXPECT_EQ(Multiply(sum, Find(sum)[0], x.data(), w.data(), floats.data()), 0);
  EXPECT_THAT(Download(floats), ElementsAre(16.5F));
  const GemmShape rounded{.m = 1, .n = 1, .k = 2, .out_dtype = DType::kBFloat16};
  const auto halves = Make<BFloat16>(1);
  EXPECT_EQ(Multiply(rounded, Find(rounded)[0], x.data(), w.data(), halves.data()), 0);
  EXPECT_EQ(ToFloat(Download(halves)[0]), 6.5F);
}

TEST_F(HostGemmTest, AnAlgorithmFitsItsShapeAndWorkspaceOnly) {
  const std::vector<GemmAlgorithm> small = Find(kFloats);
  ASSERT_EQ(small.size(), 3U);
  GemmShape large = kFloats;
  large.m = 1000;
  GemmShape wide = kFloats;
  wide.n = 7;
  EXPECT_FALSE(gemm_.is_usable(handle_, large, small[0], kWorkspaceBytes));
  EXPECT_TRUE(gemm_.is_usable(handle_, large, small[1], kWorkspaceBytes));
  EXPECT_FALSE(gemm_.is_usable(handle_, wide, small[1], kWorkspaceBytes));
  EXPECT_GT(small[0].workspace_bytes, 0);
  EXPECT_FALSE(gemm_.is_usable(handle_, kFloats, small[0], small[0].workspace_bytes - 1));
  EXPECT_EQ(Find(kFloats, 0).size(), 2U);
}

TEST_F(HostGemmTest, SettingsLimitWhatIsFound) {
  SetGemm({.max_found = 0});
  EXPECT_TRUE(Find(kFloats).empty());
  SetGemm({.max_usable_m = 4});
  EXPECT_TRUE(Find(kFloats).empty());
  SetGemm();
  const GemmAlgorithm algorithm = Find(kFloats)[0];
  SetGemm({.max_usable_m = 4});
  EXPECT_FALSE(gemm_.is_usable(handle_, kFloats, algorithm, kWorkspaceBytes));
}

TEST_F(HostGemmTest, WhatTheLibraryRefusesIsRefused) {
  const auto x = Make<float>(1024);
  const auto w = Make<float>(2048);
  const auto out = Make<float>(64);
  const GemmAlgorithm algorithm = Find(kFloats)[0];
  EXPECT_EQ(Multiply(kFloats, algorithm, x.data() + 1, w.data(), out.data()), kInvalidValue);
  EXPECT_EQ(Multiply(kFloats, algorithm, x.data(), nullptr, out.data()), kInvalidValue);
  EXPECT_EQ(gemm_.multiply(handle_, kFloats, algorithm, x.data(), w.data(), out.data(), nullptr, 0,
                           stream().handle()),
            kInvalidValue);
  GemmShape other = kFloats;
  other.k = 100;
  EXPECT_EQ(Multiply(other, algorithm, x.data(), w.data(), out.data()), kNotSupported);
  other = kFloats;
  other.out_dtype = DType::kBFloat16;
  int count = 0;
  GemmAlgorithm found;
  EXPECT_EQ(gemm_.find_algorithms(handle_, other, 0, 1, &found, &count), kNotSupported);
  EXPECT_STREQ(gemm_.error_name(kNotSupported), "CUBLAS_STATUS_NOT_SUPPORTED");
}

TEST_F(HostGemmTest, CallsAreCountedAndFailAsAsked) {
  ResetGemmCallCounts();
  FailGemmCall("find_algorithms", 2, 14);
  Find(kFloats);
  int count = 0;
  GemmAlgorithm found;
  EXPECT_EQ(gemm_.find_algorithms(handle_, kFloats, 0, 1, &found, &count), 14);
  EXPECT_EQ(GemmCallCounts()["find_algorithms"], 2);
}

}  // namespace
}  // namespace moed::cuda_host
