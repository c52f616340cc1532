#include <algorithm>
#include <cmath>

#include "gmock/gmock.h"
#include "tests/cuda_host/launch_log.h"
#include "tests/kernels/cuda/paged_attention_fixture.h"

namespace moed::cuda {
namespace {

using testing::HasSubstr;

INSTANTIATE_TEST_SUITE_P(Kernels, PagedAttentionTest,
                         testing::Values(DType::kFloat32, DType::kBFloat16), [](const auto& test) {
                           return test.param == DType::kFloat32 ? "float32" : "bfloat16";
                         });

TEST_P(PagedAttentionTest, MatchesTheReferenceForAllShapes) {
  for (const CacheShape& shape :
       {CacheShape{4, 2, 16, 8, 0}, CacheShape{1, 1, 2, 1, 0}, CacheShape{6, 3, 12, 5, 0},
        CacheShape{6, 2, 32, 16, 0}, CacheShape{8, 1, 128, 16, 0}, CacheShape{3, 3, 40, 64, 0},
        CacheShape{2, 1, 65, 7, 0}, CacheShape{2, 2, 256, 16, 0}, CacheShape{4, 2, 18, 100, 20},
        CacheShape{4, 2, 16, 8, 1}, CacheShape{80, 1, 4, 16, 0}}) {
    const int64_t length = 45;
    const Contexts contexts = MakeContexts(act(), shape, {length});
    ExpectMatch(contexts, {{0, 0, length}});
    ExpectMatch(contexts, {{0, length - 1, length}});
  }
}

// Prompt chunks, decode rows, few rows and empty chunks in one call; contexts of several pieces.
TEST_P(PagedAttentionTest, MatchesTheReferenceForMixedBatchesInAnyBlockOrder) {
  for (const int32_t window : {0, 37, 300}) {
    const Contexts contexts =
        MakeContexts(act(), {4, 2, 16, 8, window}, {300, 256, 257, 540, 33, 1});
    const std::vector<ChunkOf> chunks = {{0, 240, 300}, {1, 255, 256}, {2, 255, 257}, {3, 0, 0},
                                         {3, 538, 540}, {4, 0, 33},    {5, 0, 1}};
    UnderEachBlockOrder([&] { ExpectMatch(contexts, chunks); });
  }
}

TEST_P(PagedAttentionTest, ManyChunksFindTheirWork) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < 70; ++i) lengths.push_back(i * 41 % 290 + 1);
  const Contexts contexts = MakeContexts(act(), {2, 1, 8, 16, 0}, lengths);
  std::vector<ChunkOf> chunks;
  for (int64_t i = 0; i < 70; ++i) {
    const int64_t length = lengths[static_cast<size_t>(i)];
    chunks.push_back({i, i % 5 == 0 ? std::max<int64_t>(0, length - 40) : length - 1, length});
    if (i % 9 == 0) chunks.push_back({i, 0, 0});
  }
  ExpectMatch(contexts, chunks);
}

TEST_P(PagedAttentionTest, ARowHasTheSameBitsInAnyChunk) {
  for (const CacheShape& shape :
       {CacheShape{4, 2, 16, 8, 0}, CacheShape{3, 1, 24, 7, 0}, CacheShape{4, 2, 16, 16, 130}}) {
    const int64_t length = 272;
    const Contexts contexts = MakeContexts(act(), shape, {length});
    const Tensor whole = Attend(contexts, {{0, 0, length}});
    for (const int64_t chunk : {1, 3, 67}) {
      // Steps over the stretch that two pieces share; the first row as well.
      for (int64_t begin = 0; begin < length; begin = begin == 0 ? 251 : begin + chunk) {
        const int64_t end = std::min(begin + chunk, length);
        ASSERT_EQ(Attend(contexts, {{0, begin, end}}).bytes(), whole.bytes(begin, end - begin))
            << "tokens [" << begin << ", " << end << "), " << shape.Text();
      }
    }
  }
}

TEST_P(PagedAttentionTest, ARowHasTheSameBitsInAnyBatch) {
  const CacheShape shape{4, 2, 16, 8, 0};
  const std::vector<int64_t> lengths = {310, 40, 270};
  const Contexts contexts = MakeContexts(act(), shape, lengths);
  const Tensor alone = Attend(contexts, {{2, 269, 270}});
  const std::vector<ChunkOf> chunks = {{0, 309, 310}, {1, 0, 40}, {2, 269, 270}, {0, 100, 130}};
  const Tensor batch = Attend(contexts, chunks);
  EXPECT_EQ(batch.bytes(41, 1), alone.bytes());
  const Contexts moved = MakeContexts(act(), shape, lengths, 2);
  EXPECT_NE(moved.blocks, contexts.blocks);
  UnderEachBlockOrder([&] { EXPECT_EQ(Attend(moved, chunks).bytes(), batch.bytes()); });
}

// Scratch for one partial result, for some, for none.
TEST_P(PagedAttentionTest, TooLittleScratchCostsNoBits) {
  const CacheShape shape{4, 2, 16, 8, 0};
  const Contexts contexts = MakeContexts(act(), shape, {310, 40, 270, 600});
  const std::vector<ChunkOf> chunks = {{0, 308, 310}, {1, 39, 40}, {2, 269, 270}, {3, 599, 600}};
  const Tensor want = Attend(contexts, chunks);
  for (const int64_t max_rows : {0, 1, 2, 3}) {
    EXPECT_EQ(Attend(contexts, chunks, AttentionLimits(shape, max_rows, 600)).bytes(), want.bytes())
        << max_rows;
  }
}

TEST_P(PagedAttentionTest, OnlyKernelsWithSomethingToDoAreLaunched) {
  const auto launches = [&](int64_t length, const std::vector<ChunkOf>& chunks) {
    const Contexts contexts = MakeContexts(act(), {2, 1, 8, 16, 0}, {length});
    cuda_host::ResetLaunchCounts();
    Attend(contexts, chunks);
    std::string text;
    for (const auto& [name, count] : cuda_host::LaunchCounts()) {
      if (count > 0) text += name + " ";
    }
    return text;
  };
  EXPECT_EQ(launches(20, {{0, 19, 20}}).find("Join"), std::string::npos);
  EXPECT_EQ(launches(20, {{0, 19, 20}}).find("Whole"), std::string::npos);
  EXPECT_THAT(launches(300, {{0, 299, 300}}), HasSubstr("Join"));
  EXPECT_EQ(launches(300, {{0, 299, 300}}).find("Whole"), std::string::npos);
  EXPECT_EQ(launches(100, {{0, 0, 100}}).find("Split"), std::string::npos);
  EXPECT_THAT(launches(100, {{0, 0, 60}, {0, 60, 100}}), HasSubstr("Whole"));
}

void SetAll(Tensor& cache, const Contexts& contexts, int64_t position, float value) {
  for (int64_t d = 0; d < contexts.shape.head_dim; ++d) {
    cache.set(contexts.CacheIndex(0, position, 0) + d, value);
  }
}

// What a later or an earlier position holds does not reach rows that do not see it.
TEST_P(PagedAttentionTest, InfinitiesReachOnlyRowsThatSeeThem) {
  for (const int32_t window : {0, 12}) {
    const Contexts clean = MakeContexts(act(), {2, 1, 8, 16, window}, {60});
    const Tensor want = Attend(clean, {{0, 0, 60}});
    for (const float value : {HUGE_VALF, -HUGE_VALF, NAN}) {
      Contexts contexts = clean;
      SetAll(contexts.v_cache, contexts, 26, value);
      const int64_t past = window == 0 ? 60 : 26 + window;
      const Tensor got = Attend(contexts, {{0, 0, 60}});
      const Tensor reference = AttendOnCpu(contexts, {{0, 0, 60}});
      EXPECT_EQ(got.bytes(0, 26), want.bytes(0, 26)) << value;
      EXPECT_EQ(got.bytes(past, 60 - past), want.bytes(past, 60 - past)) << value;
      for (int64_t i = 26 * 16; i < past * 16; ++i) {
        const float g = got.at(i);
        const float w = reference.at(i);
        ASSERT_TRUE(g == w || (std::isnan(g) && std::isnan(w))) << g << ", not " << w;
      }
      // The same where rows are computed alone.
      EXPECT_EQ(Attend(contexts, {{0, 25, 26}}).bytes(), want.bytes(25, 1));
      const Tensor alone = Attend(contexts, {{0, 29, 30}});
      EXPECT_TRUE(alone.at(0) == reference.at(29 * 16) || std::isnan(value)) << alone.at(0);
    }
    Contexts contexts = clean;
    SetAll(contexts.k_cache, contexts, 26, NAN);
    const Tensor got = Attend(contexts, {{0, 0, 60}});
    EXPECT_EQ(got.bytes(0, 26), want.bytes(0, 26));
    EXPECT_TRUE(std::isnan(got.at(26 * 16)));
  }
}

// Both infinities of one dimension are not a number, and each alone is itself.
TEST_P(PagedAttentionTest, InfinitiesAddUpAsFloatsDo) {
  Contexts contexts = MakeContexts(act(), {1, 1, 8, 16, 0}, {40});
  const auto set = [&](int64_t position, int64_t d, float value) {
    contexts.v_cache.set(contexts.CacheIndex(0, position, 0) + d, value);
  };
  for (const int64_t position : {3, 7, 20}) set(position, 1, HUGE_VALF);
  for (const int64_t position : {4, 5}) set(position, 2, -HUGE_VALF);
  set(6, 3, HUGE_VALF);
  set(8, 3, -HUGE_VALF);
  // With larger queries most weights are 0.
  for (int step = 0; step < 2; ++step) {
    const Tensor got = Attend(contexts, {{0, 0, 40}});
    const Tensor want = AttendOnCpu(contexts, {{0, 0, 40}});
    for (int64_t i = 0; i < got.size(); ++i) {
      ASSERT_EQ(std::isfinite(got.at(i)), std::isfinite(want.at(i))) << step << " " << i;
      ASSERT_EQ(std::isnan(got.at(i)), std::isnan(want.at(i))) << step << " " << i;
      if (std::isinf(want.at(i))) {
        ASSERT_EQ(got.at(i), want.at(i)) << step << " " << i;
      }
    }
    Tensor& q = contexts.q[0];
    for (int64_t i = 0; i < q.size(); ++i) q.set(i, q.at(i) * 1e4F);
  }
}

TEST_P(PagedAttentionTest, LargeScoresDoNotOverflow) {
  Contexts contexts = MakeContexts(act(), {2, 1, 4, 8, 0}, {270});
  for (int64_t i = 0; i < contexts.q[0].size(); ++i) {
    contexts.q[0].set(i, contexts.q[0].at(i) * 1e4F);
  }
  const Tensor whole = Attend(contexts, {{0, 200, 270}});
  for (const float value : whole.floats()) EXPECT_TRUE(std::isfinite(value));
  EXPECT_EQ(Attend(contexts, {{0, 269, 270}}).bytes(), whole.bytes(69, 1));
}

// Scores of -inf weigh nothing beside others, and are not a number alone.
TEST_P(PagedAttentionTest, ScoresOfMinusInfinityAreAsInTheReference) {
  Contexts contexts = MakeContexts(act(), {1, 1, 8, 16, 0}, {300});
  for (int64_t position = 0; position < 260; ++position) {
    contexts.k_cache.set(contexts.CacheIndex(0, position, 0), -HUGE_VALF);
  }
  for (int64_t i = 0; i < 300; ++i) contexts.q[0].set(8 * i, 1.0F);
  const Tensor got = Attend(contexts, {{0, 290, 300}});
  const Tensor want = AttendOnCpu(contexts, {{0, 290, 300}});
  for (int64_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got.at(i), want.at(i), 0.03);
  EXPECT_TRUE(std::isnan(Attend(contexts, {{0, 99, 100}}).at(0)));
}

TEST_P(PagedAttentionTest, NoRowsIsNoWork) {
  const Contexts contexts = MakeContexts(act(), {}, {8});
  cuda_host::ResetLaunchCounts();
  EXPECT_EQ(Attend(contexts, {}).size(), 0);
  EXPECT_EQ(Attend(contexts, {{0, 0, 0}, {0, 3, 3}}).size(), 0);
  EXPECT_TRUE(cuda_host::LaunchCounts().empty());
}

TEST_P(PagedAttentionTest, SizesWithoutCodeAreRefused) {
  auto kernels = PagedAttentionKernels::Create(memory(), AttentionLimits({1, 1, 258}, 1, 1));
  EXPECT_EQ(kernels.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(kernels.status().message()), HasSubstr("head_dim 258"));
  kernels = PagedAttentionKernels::Create(memory(), AttentionLimits({}, 1, int64_t{1} << 31));
  EXPECT_EQ(kernels.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(kernels.status().message()), HasSubstr("2147483648 tokens"));
}

TEST_P(PagedAttentionTest, AFailedLaunchIsNotedOnTheStream) {
  const Contexts contexts = MakeContexts(act(), {}, {300});
  const auto kernels = PagedAttentionKernels::Create(memory(), AttentionLimits({}, 1, 300));
  ASSERT_TRUE(kernels.ok());
  PagedAttentionArgs args;
  const Tensor ints = Tensor::Ints({2}, {0, 1});
  args.q = ConstTensorView(contexts.q[0]).Rows(299, 1);
  args.k_cache = contexts.k_cache;
  args.v_cache = contexts.v_cache;
  args.chunk_starts = ints;
  const Tensor lengths = Tensor::Ints({1}, {300});
  const Tensor tables = Tensor::Ints({1, 38}, std::vector<int32_t>(38, 0));
  args.context_lengths = lengths;
  args.block_tables = tables;
  Tensor out(act(), {1, 64});
  args.out = out.view();
  cuda_host::FailCall("launch_kernel", 2, 701);
  (*kernels)->Run(stream(), args);
  const absl::Status status = stream().Synchronize();
  EXPECT_THAT(std::string(status.message()), HasSubstr("PagedAttention"));
  cuda_host::ClearFailures();
}

}  // namespace
}  // namespace moed::cuda
