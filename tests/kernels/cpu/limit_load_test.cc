#include <algorithm>
#include <map>
#include <random>

#include "tests/kernels/cpu/kernel_test.h"

namespace moed {
namespace {

class LimitLoadTest : public testing::TestWithParam<Kernels> {
 protected:
  std::unique_ptr<Backend> backend_ = MakeTestBackend({GetParam(), DType::kFloat32});
  std::unique_ptr<Stream> stream_ = backend_->CreateStream();
};
INSTANTIATE_TEST_SUITE_P(Kernels, LimitLoadTest,
                         testing::Values(Kernels::kReference, Kernels::kPortable));

TEST_P(LimitLoadTest, FirstChoicesAreServedBeforeSecondOnes) {
  // Expert 0 is the second choice of row 0 and the first of rows 1 and 2; it takes two.
  Tensor ids = Tensor::Ints({4, 2}, {1, 0, 0, 2, 0, 1, -1, 1});
  Tensor dropped = Tensor::Ints({4}, {10, 0, 0, 0});
  backend_->LimitLoad(*stream_, {2, 3, ids.view(), dropped.view()});
  EXPECT_EQ(ids.ints(), (std::vector<int32_t>{1, -1, 0, 2, 0, 1, -1, -1}));
  EXPECT_EQ(dropped.ints(), (std::vector<int32_t>{11, 0, 0, 1}));
}

// GShard's loop over choices and tokens with a count of each expert.
TEST_P(LimitLoadTest, MatchesTheCountingLoop) {
  constexpr uint32_t kSeed = 5;
  std::mt19937 engine(kSeed);
  for (const int num_tokens : {0, 1, 3, 64, 257}) {
    for (const int top_k : {0, 1, 2, 3, 5}) {
      for (const int num_experts : {5, 8, 255, 256, 257, 600}) {
        for (const int capacity : {0, 1, 2, 7, 100000}) {
          std::vector<int32_t> ids;
          std::vector<int32_t> dropped;
          for (int t = 0; t < num_tokens; ++t) {
            dropped.push_back(static_cast<int32_t>(engine() % 3));
            for (int c = 0; c < top_k; ++c) {
              // A few experts are wanted by most.
              const auto bound = static_cast<uint32_t>(engine() % 2 == 0 ? 3 : num_experts);
              ids.push_back(static_cast<int32_t>(
                  engine() % 6 == 0 ? -1
                                    : num_experts - 1 - static_cast<int32_t>(engine() % bound)));
            }
          }
          Tensor got_ids = Tensor::Ints({num_tokens, top_k}, ids);
          Tensor got_dropped = Tensor::Ints({num_tokens}, dropped);
          backend_->LimitLoad(*stream_,
                              {capacity, num_experts, got_ids.view(), got_dropped.view()});
          std::map<int32_t, int> load;
          for (int c = 0; c < top_k; ++c) {
            for (int t = 0; t < num_tokens; ++t) {
              int32_t& id = ids[static_cast<size_t>(t * top_k + c)];
              if (id < 0) continue;
              if (load[id] == capacity) {
                id = -1;
                ++dropped[static_cast<size_t>(t)];
              } else {
                ++load[id];
              }
            }
          }
          ASSERT_EQ(got_ids.ints(), ids)
              << num_tokens << " tokens, top " << top_k << " of " << num_experts << ", capacity "
              << capacity << ", seed " << kSeed;
          ASSERT_EQ(got_dropped.ints(), dropped);
        }
      }
    }
  }
}

TEST_P(LimitLoadTest, CapacityZeroDropsEveryPair) {
  Tensor ids = Tensor::Ints({3, 2}, {0, 1, 1, -1, -1, -1});
  Tensor dropped(DType::kInt32, {3});
  backend_->LimitLoad(*stream_, {0, 2, ids.view(), dropped.view()});
  EXPECT_EQ(ids.ints(), std::vector<int32_t>(6, -1));
  EXPECT_EQ(dropped.ints(), (std::vector<int32_t>{2, 1, 0}));
}

TEST(LimitLoadDeathTest, WrongArgumentsAreCaught) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto backend = MakeTestBackend({Kernels::kBaseline, DType::kFloat32});
  const auto stream = backend->CreateStream();
  Tensor ids = Tensor::Ints({1, 2}, {0, 2});
  Tensor dropped(DType::kInt32, {1});
  EXPECT_DEATH(backend->LimitLoad(*stream, {1, 2, ids.view(), dropped.view()}), "out of range");
  EXPECT_DEATH(backend->LimitLoad(*stream, {-1, 3, ids.view(), dropped.view()}), "capacity");
  EXPECT_DEATH(backend->LimitLoad(*stream, {1, 3, ids.view(), ids.view()}), "LimitLoad: dropped");
}

}  // namespace
}  // namespace moed
