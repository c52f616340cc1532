// CountChoices, PlanSend, IndexStaticSlots, GroupByExpert and LimitLoad: integers equal to the
// CPU's, and what the contract leaves alone is left alone.
#include <algorithm>
#include <numeric>
#include <random>

#include "kernels/cuda/routing_ops.h"
#include "tests/cuda_host/launch_log.h"
#include "tests/kernels/cuda/reference_fixture.h"

namespace moed::cuda {
namespace {

class CudaIndexTest : public ReferenceTest {
 protected:
  Backend& cpu() { return ReferenceTest::cpu(DType::kFloat32); }
};

// Distinct experts a row; every fifth choice is no pair. kOne: every row's first choice is the last
// expert; kNone: no pairs.
enum class Routing { kRandom, kOne, kNone };

Tensor Choices(int64_t num_tokens, int64_t top_k, int64_t num_experts, Routing routing) {
  std::mt19937 engine(static_cast<uint32_t>(num_tokens * 31 + num_experts));
  std::vector<int32_t> experts(static_cast<size_t>(num_experts));
  std::vector<int32_t> choices;
  for (int64_t t = 0; t < num_tokens; ++t) {
    std::iota(experts.begin(), experts.end(), 0);
    if (routing == Routing::kRandom) std::shuffle(experts.begin(), experts.end(), engine);
    if (routing == Routing::kOne) std::reverse(experts.begin(), experts.end());
    for (size_t c = 0; c < static_cast<size_t>(top_k); ++c) {
      const bool none = routing == Routing::kRandom && engine() % 5 == 0;
      choices.push_back(none || routing == Routing::kNone ? -1 : experts[c]);
    }
  }
  return Tensor::Ints({num_tokens, top_k}, choices);
}

struct Size {
  int64_t num_tokens;
  int64_t top_k;
  int64_t num_experts;
};

std::string Describe(const Size& size) {
  return std::to_string(size.num_tokens) + " rows, top " + std::to_string(size.top_k) + " of " +
         std::to_string(size.num_experts);
}

Tensor Filled(int64_t size, int32_t value) {
  return Tensor::Ints({size}, std::vector<int32_t>(static_cast<size_t>(size), value));
}

// One warp and its part of one, full warps, several steps of a warp, more keys than lanes and than
// a pass counts; the last size fills 1,024 threads with several steps each.
const Size kSizes[] = {{1, 1, 1},   {1, 2, 8},   {5, 3, 4},     {16, 2, 8},
                       {40, 8, 40}, {3, 6, 600}, {129, 3, 300}, {2600, 2, 8}};

TEST_F(CudaIndexTest, CountChoicesAddsToTheCounts) {
  for (const Size& size : {Size{1, 1, 1}, Size{1500, 2, 8}, Size{700, 3, 2500}}) {
    const Tensor ids = Choices(size.num_tokens, size.top_k, size.num_experts, Routing::kRandom);
    std::vector<int64_t> want(static_cast<size_t>(size.num_experts));
    std::iota(want.begin(), want.end(), int64_t{1} << 33);
    const std::vector<int64_t> before = want;
    cpu().CountChoices(cpu_stream(),
                       {ids, TensorView(want.data(), DType::kInt64, {size.num_experts})});
    UnderEachBlockOrder([&] {
      const DeviceArray<int64_t> counts = Upload(before);
      CountChoices(stream(), {Put(ids), counts.View()});
      EXPECT_EQ(Download(counts), want) << Describe(size);
    });
  }
}

TEST_F(CudaIndexTest, PlanSendIsTheCpus) {
  for (const Size& size : kSizes) {
    for (const int64_t num_ranks : {1, 2, 8, 130}) {
      for (const Routing routing : {Routing::kRandom, Routing::kOne, Routing::kNone}) {
        if (routing != Routing::kRandom && num_ranks != 8) continue;
        const Tensor ids = Choices(size.num_tokens, size.top_k, size.num_experts, routing);
        std::vector<int32_t> rank_of;
        for (int64_t e = 0; e < size.num_experts; ++e) {
          rank_of.push_back(static_cast<int32_t>(e * 3 % num_ranks));
        }
        const Tensor ranks = Tensor::Ints({size.num_experts}, rank_of);
        const int64_t room = size.num_tokens * std::min(size.top_k, num_ranks) + 3;
        Tensor want_rows = Filled(room, -9);
        Tensor want_sends = Filled(num_ranks, -9);
        Tensor want_replies = Filled(num_ranks, -9);
        Tensor want_places(DType::kInt32, {size.num_tokens, size.top_k});
        const Tensor old_rows = want_rows;
        const Tensor old_counts = want_sends;
        cpu().PlanSend(cpu_stream(), {ids, ranks, want_rows.view(), want_sends.view(),
                                      want_replies.view(), want_places.view()});
        UnderEachBlockOrder([&] {
          const TensorView rows = Put(old_rows);
          const TensorView sends = Put(old_counts);
          const TensorView replies = Put(old_counts);
          const TensorView places = Put(Tensor(DType::kInt32, {size.num_tokens, size.top_k}));
          PlanSend(stream(), {Put(ids), Put(ranks), rows, sends, replies, places});
          const std::string what = Describe(size) + ", ranks " + std::to_string(num_ranks);
          EXPECT_EQ(Get(sends, want_sends).ints(), want_sends.ints()) << what;
          EXPECT_EQ(Get(replies, want_replies).ints(), want_replies.ints()) << what;
          EXPECT_EQ(Get(places, want_places).ints(), want_places.ints()) << what;
          EXPECT_EQ(Get(rows, want_rows).ints(), want_rows.ints()) << what;
        });
      }
    }
  }
}

TEST_F(CudaIndexTest, PlanSendWithoutRowsClearsTheCounts) {
  const TensorView sends = Put(Filled(3, 7));
  const TensorView replies = Put(Filled(3, 7));
  const TensorView none = Put(Tensor(DType::kInt32, {0, 2}));
  const TensorView no_rows = Put(Filled(0, 0));
  PlanSend(stream(), {none, Put(Filled(4, 1)), no_rows, sends, replies, none});
  EXPECT_EQ(Get(sends, Filled(3, 0)).ints(), std::vector<int32_t>(3));
  EXPECT_EQ(Get(replies, Filled(3, 0)).ints(), std::vector<int32_t>(3));
}

TEST_F(CudaIndexTest, IndexStaticSlotsIsTheCpus) {
  for (const Size& size : kSizes) {
    std::vector<int32_t> rank_of;
    for (int64_t e = 0; e < size.num_experts; ++e) rank_of.push_back(static_cast<int32_t>(e % 3));
    const Tensor ids = Choices(size.num_tokens, size.top_k, size.num_experts, Routing::kRandom);
    const Tensor ranks = Tensor::Ints({size.num_experts}, rank_of);
    Tensor want(DType::kInt32, {size.num_tokens, size.top_k});
    cpu().IndexStaticSlots(cpu_stream(),
                           {ids, ranks, size.num_tokens + 5, size.top_k, want.view()});
    UnderEachBlockOrder([&] {
      const TensorView places = Put(Tensor(DType::kInt32, {size.num_tokens, size.top_k}));
      IndexStaticSlots(stream(), {Put(ids), Put(ranks), size.num_tokens + 5, size.top_k, places});
      EXPECT_EQ(Get(places, want).ints(), want.ints()) << Describe(size);
    });
  }
}

TEST_F(CudaIndexTest, GroupByExpertIsTheCpus) {
  for (const Size& size : kSizes) {
    for (const int64_t num_ranks : {1, 3, 1000}) {
      for (const Routing routing : {Routing::kRandom, Routing::kOne, Routing::kNone}) {
        if (routing != Routing::kRandom && num_ranks != 1) continue;
        // Rank 0's experts are every num_ranks-th, in falling order.
        std::vector<int32_t> local_of(static_cast<size_t>(size.num_experts), -1);
        int32_t num_local = 0;
        for (int64_t e = (size.num_experts - 1) / num_ranks * num_ranks; e >= 0; e -= num_ranks) {
          local_of[static_cast<size_t>(e)] = num_local++;
        }
        const Tensor ids = Choices(size.num_tokens, size.top_k, size.num_experts, routing);
        const Tensor local = Tensor::Ints({size.num_experts}, local_of);
        const int64_t room = size.num_tokens * std::min<int64_t>(size.top_k, num_local) + 3;
        for (const int64_t slots : {int64_t{0}, size.top_k}) {
          const Tensor old_offsets = Filled(num_local + 1, -9);
          const Tensor old_index = Filled(room, -9);
          Tensor want_offsets = old_offsets;
          Tensor want_rows = old_index;
          Tensor want_outs = old_index;
          cpu().GroupByExpert(cpu_stream(), {ids, local, slots, want_offsets.view(),
                                             want_rows.view(), want_outs.view()});
          UnderEachBlockOrder([&] {
            const TensorView offsets = Put(old_offsets);
            const TensorView rows = Put(old_index);
            const TensorView outs = Put(old_index);
            GroupByExpert(stream(), {Put(ids), Put(local), slots, offsets, rows, outs});
            const std::string what = Describe(size) + ", local " + std::to_string(num_local);
            EXPECT_EQ(Get(offsets, want_offsets).ints(), want_offsets.ints()) << what;
            EXPECT_EQ(Get(rows, want_rows).ints(), want_rows.ints()) << what;
            EXPECT_EQ(Get(outs, want_outs).ints(), want_outs.ints()) << what;
          });
        }
      }
    }
  }
}

TEST_F(CudaIndexTest, GroupByExpertWithoutRowsOrLocalExpertsClearsTheOffsets) {
  const TensorView empty = Put(Filled(0, 0));
  const TensorView local = Put(Filled(4, -1));
  const TensorView offsets = Put(Filled(3, 9));
  GroupByExpert(stream(), {Put(Tensor(DType::kInt32, {0, 2})), local, 0, offsets, empty, empty});
  EXPECT_EQ(Get(offsets, Filled(3, 0)).ints(), std::vector<int32_t>(3));
  const TensorView one = Put(Filled(1, 9));
  const TensorView ids = Put(Tensor::Ints({1, 2}, {0, 1}));
  GroupByExpert(stream(), {ids, local, 0, one, empty, empty});
  EXPECT_EQ(Get(one, Filled(1, 0)).ints(), std::vector<int32_t>(1));
  const TensorView two = Put(Filled(3, 9));
  GroupByExpert(stream(), {ids, local, 0, two, empty, empty});
  EXPECT_EQ(Get(two, Filled(3, 0)).ints(), std::vector<int32_t>(3));
}

TEST_F(CudaIndexTest, LimitLoadIsTheCpus) {
  for (const Size& size : kSizes) {
    for (const int64_t capacity : {0, 1, 7, 300, 100000}) {
      for (const Routing routing : {Routing::kRandom, Routing::kOne}) {
        const Tensor ids = Choices(size.num_tokens, size.top_k, size.num_experts, routing);
        const Tensor old_dropped = Filled(size.num_tokens, 5);
        Tensor want_ids = ids;
        Tensor want_dropped = old_dropped;
        cpu().LimitLoad(cpu_stream(),
                        {capacity, size.num_experts, want_ids.view(), want_dropped.view()});
        UnderEachBlockOrder([&] {
          const TensorView kept = Put(ids);
          const TensorView dropped = Put(old_dropped);
          LimitLoad(stream(), {capacity, size.num_experts, kept, dropped});
          const std::string what = Describe(size) + ", capacity " + std::to_string(capacity);
          EXPECT_EQ(Get(kept, want_ids).ints(), want_ids.ints()) << what;
          EXPECT_EQ(Get(dropped, want_dropped).ints(), want_dropped.ints()) << what;
        });
      }
    }
  }
}

TEST_F(CudaIndexTest, NoPairsLaunchNothing) {
  const TensorView none = Put(Tensor(DType::kInt32, {0, 2}));
  const TensorView flat = Put(Tensor(DType::kInt32, {3, 0}));
  const TensorView some = Put(Filled(3, 0));
  const DeviceArray<int64_t> counts = Upload<int64_t>({1, 2});
  Run();
  const auto before = cuda_host::LaunchCounts();
  for (const TensorView& ids : {none, flat}) {
    CountChoices(stream(), {ids, counts.View()});
    IndexStaticSlots(stream(), {ids, some, 3, 1, ids});
    LimitLoad(stream(), {1, 3, ids, Put(Filled(ids.dim(0), 0))});
  }
  PlanSend(stream(), {none, some, Put(Filled(0, 0)), Put(Filled(0, 0)), Put(Filled(0, 0)), none});
  Run();
  EXPECT_EQ(cuda_host::LaunchCounts(), before);
}

}  // namespace
}  // namespace moed::cuda
