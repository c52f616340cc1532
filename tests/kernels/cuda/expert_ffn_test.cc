#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>

#include "gmock/gmock.h"
#include "tests/cuda_host/host_gemm.h"
#include "tests/cuda_host/launch_log.h"
#include "tests/kernels/cuda/gemm_fixture.h"

namespace moed::cuda {
namespace {

constexpr float kUntouched = 42.0F;

struct Sizes {
  int64_t hidden = 0;
  std::vector<int64_t> ffn;  // of each expert
};

// What of which row goes through which expert, and where the result goes.
struct Pairs {
  std::vector<int32_t> offsets, rows, outs;
  int64_t num_rows = 0;
};

// counts[e] pairs of random rows for expert e, to places in random order.
Pairs RandomPairs(const std::vector<int32_t>& counts, int32_t num_rows, uint32_t seed) {
  Pairs pairs;
  pairs.offsets = {0};
  pairs.num_rows = num_rows;
  std::mt19937 random(seed);
  for (const int32_t count : counts) {
    pairs.offsets.push_back(pairs.offsets.back() + count);
    for (int32_t i = 0; i < count; ++i) {
      pairs.rows.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(num_rows)));
    }
  }
  pairs.outs = Range(pairs.offsets.back());
  std::shuffle(pairs.outs.begin(), pairs.outs.end(), random);
  return pairs;
}

class ExpertFfnTest : public GemmTest {
 protected:
  ExpertFfnTest() { cuda_host::SetGemm(); }
  ~ExpertFfnTest() override { cuda_host::SetGemm(); }

  struct Expert {
    Tensor w1, w2, w3;
    std::unique_ptr<ExpertWeight> packed, reference;
  };

  std::vector<Expert> MakeExperts(GemmKernels& kernels, const Sizes& sizes) {
    std::vector<Expert> experts;
    const float scale = 1.0F / std::sqrt(static_cast<float>(std::max<int64_t>(sizes.hidden, 1)));
    uint32_t seed = 100;
    for (const int64_t ffn : sizes.ffn) {
      Expert expert;
      expert.w1 = Tensor::Random(act(), {ffn, sizes.hidden}, ++seed, scale);
      expert.w2 = Tensor::Random(act(), {sizes.hidden, ffn}, ++seed, scale);
      expert.w3 = Tensor::Random(act(), {ffn, sizes.hidden}, ++seed, scale);
      auto packed = kernels.PackExpert(stream(), expert.w1, expert.w2, expert.w3);
      auto reference_packed = reference().PackExpert(expert.w1, expert.w2, expert.w3);
      EXPECT_TRUE(packed.ok()) << packed.status();
      EXPECT_TRUE(reference_packed.ok());
      expert.packed = *std::move(packed);
      expert.reference = *std::move(reference_packed);
      experts.push_back(std::move(expert));
    }
    return experts;
  }

  // The results, [pairs + 1, hidden], on the device. `extra` pairs past the last hold indices that
  // must not be followed.
  Tensor Compute(GemmKernels& kernels, const std::vector<Expert>& experts, const Tensor& x,
                 Pairs pairs, int extra = 0) {
    const int64_t hidden = x.dim(1);
    const auto num_out = static_cast<int64_t>(pairs.outs.size()) + 1;
    for (int i = 0; i < extra; ++i) {
      pairs.rows.push_back(std::numeric_limits<int32_t>::max());
      pairs.outs.push_back(std::numeric_limits<int32_t>::min());
    }
    Tensor out = Untouched(num_out, hidden);
    std::vector<const ExpertWeight*> weights;
    for (const Expert& expert : experts) weights.push_back(expert.packed.get());
    const Buffer x_device = UploadView(x);
    const Buffer out_device = UploadView(out);
    const auto offsets = Upload(pairs.offsets);
    const auto rows = Upload(pairs.rows);
    const auto outs = Upload(pairs.outs);
    kernels.ExpertFfn(stream(), {.x = x_device.View(act(), {x.dim(0), hidden}),
                                 .experts = weights,
                                 .expert_offsets = offsets.View(),
                                 .row_index = rows.View(),
                                 .out_index = outs.View(),
                                 .out = out_device.View(act(), {num_out, hidden})});
    DownloadView(out_device.View(act(), {num_out, hidden}), out.view());
    return out;
  }

  Tensor Reference(const std::vector<Expert>& experts, const Tensor& x, const Pairs& pairs) {
    Tensor out = Untouched(static_cast<int64_t>(pairs.outs.size()) + 1, x.dim(1));
    std::vector<const ExpertWeight*> weights;
    for (const Expert& expert : experts) weights.push_back(expert.reference.get());
    const auto num_pairs = static_cast<int64_t>(pairs.rows.size());
    reference().ExpertFfn(reference_stream(),
                          {.x = x,
                           .experts = weights,
                           .expert_offsets = Tensor::Ints(
                               {static_cast<int64_t>(pairs.offsets.size())}, pairs.offsets),
                           .row_index = Tensor::Ints({num_pairs}, pairs.rows),
                           .out_index = Tensor::Ints({num_pairs}, pairs.outs),
                           .out = out.view()});
    return out;
  }

  void ExpectMatches(const Sizes& sizes, const Pairs& pairs, const std::string& what,
                     int extra = 0) {
    const std::vector<Expert> experts = MakeExperts(kernels(), sizes);
    const Tensor x = Tensor::Random(act(), {pairs.num_rows, sizes.hidden}, 7);
    ExpectSame(Compute(kernels(), experts, x, pairs, extra), Reference(experts, x, pairs), what);
  }

  // Within what two orders of float32 sums, and the roundings that follow, can differ by. A
  // result's row has elements of about one size, so its norm stands for what was summed.
  void ExpectSame(const Tensor& got, const Tensor& want, const std::string& what) const {
    std::vector<double> wanted;
    std::vector<double> allowed;
    for (int64_t row = 0; row < want.dim(0); ++row) {
      double norm = 0;
      for (int64_t i = 0; i < want.dim(1); ++i) {
        norm = std::max<double>(norm, std::abs(want.at(row * want.dim(1) + i)));
      }
      const bool untouched = want.at(row * want.dim(1)) == kUntouched;
      for (int64_t i = 0; i < want.dim(1); ++i) {
        wanted.push_back(want.at(row * want.dim(1) + i));
        allowed.push_back(untouched ? 0.0 : (2e-5 + 2 * StoreEpsilon(act())) * norm);
      }
    }
    ExpectClose(got.floats(), wanted, allowed, what);
  }

 private:
  Tensor Untouched(int64_t rows, int64_t width) const {
    return Tensor::Of(act(), {rows, width},
                      std::vector<float>(static_cast<size_t>(rows * width), kUntouched));
  }
};
INSTANTIATE_TEST_SUITE_P(Gemm, ExpertFfnTest,
                         testing::Values(GemmCase{DType::kFloat32, true},
                                         GemmCase{DType::kBFloat16, true}),
                         GemmCaseName);

TEST_P(ExpertFfnTest, MatchesTheReferenceForOddSizesAndAnExpertWithoutRows) {
  UnderEachBlockOrder([&] {
    ExpectMatches({72, {40, 40, 40}}, RandomPairs({3, 0, 4}, 5, 1), "72, 40");
    ExpectMatches({7, {5, 5}}, RandomPairs({2, 9}, 6, 2), "7, 5");
    ExpectMatches({1, {1}}, RandomPairs({1}, 1, 3), "1, 1");
    ExpectMatches({24, {200, 200}}, RandomPairs({20, 11}, 6, 4), "24, 200");
  });
}

TEST_P(ExpertFfnTest, MatchesTheReferenceForManyRows) {
  ExpectMatches({40, {24, 24}}, RandomPairs({61, 9}, 33, 1), "two experts");
  ExpectMatches({40, {72}}, RandomPairs({150}, 90, 2), "one expert");
  ExpectMatches({9, {11, 11}}, RandomPairs({30, 40}, 33, 3), "unaligned");
}

TEST_P(ExpertFfnTest, AllRowsMayGoToOneExpert) {
  ExpectMatches({24, {16, 16, 16}}, RandomPairs({0, 40, 0}, 40, 1), "the middle one");
  ExpectMatches({24, {16, 16, 16}}, RandomPairs({0, 0, 7}, 7, 1), "the last one");
}

TEST_P(ExpertFfnTest, ExpertsMayOutnumberWhatALaunchTakes) {
  std::vector<int32_t> counts(40, 1);
  counts[3] = 0;
  counts[35] = 4;
  ExpectMatches({16, std::vector<int64_t>(40, 8)}, RandomPairs(counts, 11, 1), "40 experts");
}

TEST_P(ExpertFfnTest, ExpertsMayDifferInSize) {
  ExpectMatches({16, {8, 24, 24, 9}}, RandomPairs({3, 2, 5, 4}, 9, 1), "8, 24, 24, 9");
}

TEST_P(ExpertFfnTest, IndicesPastTheLastPairAreNotFollowed) {
  for (const int32_t count : {0, 3, 50}) {
    ExpectMatches({24, {16, 16}}, RandomPairs({count, 2}, 9, 1), "with room for more", 70);
  }
}

TEST_P(ExpertFfnTest, PairsBeyondTheScratchMemoryAreComputedInPasses) {
  const auto small = MakeKernels(nullptr, true);
  WorkspaceLimits limits = SmallLimits();
  limits.max_expert_rows = 4;
  ASSERT_TRUE(small->PrepareWorkspace(limits).ok());
  const std::vector<Expert> experts = MakeExperts(*small, {24, {16, 16, 16}});
  const Pairs pairs = RandomPairs({5, 9, 7}, 21, 1);
  const Tensor x = Tensor::Random(act(), {21, 24}, 7);
  const Tensor want = Compute(kernels(), experts, x, pairs);
  cuda_host::ResetLaunchCounts();
  EXPECT_EQ(Compute(*small, experts, x, pairs).bytes(), want.bytes());
  EXPECT_EQ(cuda_host::LaunchCounts()["StreamGemm"], 2 * 3) << "21 pairs, 8 at a time";
}

TEST_P(ExpertFfnTest, DoesNothingWithoutPairs) {
  ExpectMatches({24, {16, 16}}, RandomPairs({0, 0}, 3, 1), "no pair");
  ExpectMatches({24, {16, 16}}, RandomPairs({0, 0}, 3, 1), "no pair, room for some", 5);
  const std::vector<Expert> experts = MakeExperts(kernels(), {24, {16}});
  const Tensor out = Compute(kernels(), experts, Tensor(act(), {0, 24}), RandomPairs({0}, 1, 1));
  EXPECT_THAT(out.floats(), testing::Each(kUntouched));
}

TEST_P(ExpertFfnTest, AnExpertWithoutInnerFeaturesGivesZeros) {
  ExpectMatches({24, {0}}, RandomPairs({3}, 3, 1), "ffn 0");
}

TEST_P(ExpertFfnTest, RowsHaveTheSameBitsInEveryBatch) {
  const int64_t hidden = 136;
  const std::vector<Expert> experts = MakeExperts(kernels(), {hidden, {200, 200, 200}});
  const Tensor x = Tensor::Random(act(), {30, hidden}, 7);
  // Every row through every expert, by itself.
  std::vector<std::string> alone;
  for (size_t e = 0; e < 3; ++e) {
    for (int32_t row = 0; row < 30; ++row) {
      Pairs one{.offsets = {0, 0, 0, 0}, .rows = {row}, .outs = {0}, .num_rows = 30};
      for (size_t later = e + 1; later < 4; ++later) one.offsets[later] = 1;
      alone.push_back(Compute(kernels(), experts, x, one).bytes(0, 1));
    }
  }
  uint32_t seed = 0;
  for (const std::vector<int32_t>& counts : std::vector<std::vector<int32_t>>{
           {3, 0, 2}, {9, 7, 0}, {1, 20, 12}, {40, 1, 3}, {20, 30, 70}, {0, 150, 0}}) {
    const Pairs pairs = RandomPairs(counts, 30, ++seed);
    const Tensor got = Compute(kernels(), experts, x, pairs);
    for (size_t e = 0; e < 3; ++e) {
      for (auto i = static_cast<size_t>(pairs.offsets[e]);
           i < static_cast<size_t>(pairs.offsets[e + 1]); ++i) {
        ASSERT_EQ(got.bytes(pairs.outs[i], 1), alone[e * 30 + static_cast<size_t>(pairs.rows[i])])
            << "pair " << i << " of " << pairs.outs.size() << ", expert " << e;
      }
    }
  }
}

TEST_P(ExpertFfnTest, WeightsAreCountedAndGivenBack) {
  const int64_t before = memory().allocated_bytes(MemoryKind::kWeights);
  {
    const std::vector<Expert> experts = MakeExperts(kernels(), {24, {16}});
    EXPECT_EQ(experts[0].packed->bytes(), 3 * 24 * 16 * DTypeBytes(act()));
    EXPECT_EQ(memory().allocated_bytes(MemoryKind::kWeights) - before, experts[0].packed->bytes());
  }
  EXPECT_EQ(memory().allocated_bytes(MemoryKind::kWeights), before);
}

TEST_P(ExpertFfnTest, RefusesWeightsThatDoNotFitTogether) {
  const auto packed = kernels().PackExpert(stream(), Tensor(act(), {16, 8}), Tensor(act(), {16, 8}),
                                           Tensor(act(), {16, 8}));
  EXPECT_EQ(packed.status().code(), absl::StatusCode::kInvalidArgument);
}

using ExpertFfnDeathTest = ExpertFfnTest;
INSTANTIATE_TEST_SUITE_P(Gemm, ExpertFfnDeathTest, testing::Values(GemmCase{DType::kFloat32, true}),
                         GemmCaseName);

TEST_P(ExpertFfnDeathTest, AnExpertLargerThanTheWorkspaceIsABug) {
  const std::vector<Expert> experts = MakeExperts(kernels(), {8, {545}});
  EXPECT_DEATH(Compute(kernels(), experts, Tensor(act(), {1, 8}), RandomPairs({1}, 1, 1)),
               "ffn exceeds the workspace's limits");
}

// Enough pairs of one expert for the library.
class ExpertFfnLibraryTest : public ExpertFfnTest {
 protected:
  static constexpr int32_t kRows = 1100;

  void SetUp() override {
    library_ = MakeKernels(&cuda_host::HostGemmApi(), false);
    Prepare();
    experts_ = MakeExperts(*library_, {16, {11}});
    x_ = Tensor::Random(act(), {40, 16}, 7);
    cuda_host::ResetGemmCallCounts();
    cuda_host::ResetLaunchCounts();
  }

  void Prepare() {
    WorkspaceLimits limits = SmallLimits();
    limits.max_expert_rows = kRows;
    limits.hidden = 16;
    limits.ffn = 16;
    ASSERT_TRUE(library_->PrepareWorkspace(limits).ok());
  }

  std::unique_ptr<GemmKernels> library_;
  std::vector<Expert> experts_;
  Tensor x_;
};
INSTANTIATE_TEST_SUITE_P(Gemm, ExpertFfnLibraryTest,
                         testing::Values(GemmCase{DType::kFloat32, false},
                                         GemmCase{DType::kBFloat16, false}),
                         GemmCaseName);

TEST_P(ExpertFfnLibraryTest, OneExpertOfManyRowsGoesThroughTheLibrary) {
  const Pairs pairs = RandomPairs({kRows}, 40, 1);
  ExpectSame(Compute(*library_, experts_, x_, pairs), Reference(experts_, x_, pairs), "all");
  EXPECT_EQ(cuda_host::GemmCallCounts()["multiply"], 4) << "1024 pairs, then 76";
  EXPECT_EQ(cuda_host::GemmCallCounts()["find_algorithms"], 0);
  EXPECT_EQ(cuda_host::LaunchCounts()["GateRows"], 2);
}

TEST_P(ExpertFfnLibraryTest, IndicesPastTheLastPairAreNotFollowed) {
  const Pairs pairs = RandomPairs({30}, 40, 1);
  ExpectSame(Compute(*library_, experts_, x_, pairs, kRows - 30), Reference(experts_, x_, pairs),
             "30 of many");
  EXPECT_EQ(cuda_host::GemmCallCounts()["multiply"], 4);
}

TEST_P(ExpertFfnLibraryTest, OurKernelsComputeWhatTheLibraryCannot) {
  cuda_host::SetGemm({.max_usable_m = 1000});
  Prepare();
  const Pairs pairs = RandomPairs({30}, 40, 1);
  ExpectSame(Compute(*library_, experts_, x_, pairs, kRows - 30), Reference(experts_, x_, pairs),
             "no algorithm for the first 1024");
  EXPECT_EQ(cuda_host::GemmCallCounts()["multiply"], 2) << "of the other 76";
}

TEST_P(ExpertFfnLibraryTest, SeveralExpertsStayWithOurKernels) {
  const std::vector<Expert> experts = MakeExperts(*library_, {16, {8, 8}});
  const Pairs pairs = RandomPairs({20, 10}, 40, 1);
  ExpectSame(Compute(*library_, experts, x_, pairs, kRows - 30), Reference(experts, x_, pairs),
             "two experts");
  EXPECT_EQ(cuda_host::GemmCallCounts()["multiply"], 0);
}

}  // namespace
}  // namespace moed::cuda
