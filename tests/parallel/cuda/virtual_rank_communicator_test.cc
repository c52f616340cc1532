#include "parallel/cuda/virtual_rank_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "kernels/core/status.h"
#include "tests/parallel/cuda/rank_device.h"

namespace moed::cuda {
namespace {

constexpr uint64_t kSeed = 20;

// What `rank` sends in `step`: every rank can rebuild it.
Numbers SentBy(int rank, int step, int64_t count) {
  std::mt19937_64 random(kSeed * 1'000'003 + static_cast<uint64_t>(rank * 1009 + step));
  Numbers numbers(static_cast<size_t>(count));
  for (int64_t& number : numbers) number = static_cast<int64_t>(random());
  return numbers;
}

// Rows that `sender` has for `receiver`, none for some pairs.
int64_t RowsBetween(int sender, int receiver, int step, int64_t most) {
  std::mt19937_64 random(kSeed + static_cast<uint64_t>((sender * 64 + receiver) * 64 + step));
  return random() % 3 == 0 ? 0 : static_cast<int64_t>(random() % static_cast<uint64_t>(most + 1));
}

class VirtualRanks : public ::testing::TestWithParam<int> {
 protected:
  static void ExpectAllOk(const std::function<absl::Status(Communicator&, RankDevice&)>& body) {
    const std::shared_ptr<VirtualRankGroup> group = MakeVirtualGroup(GetParam());
    // What a rank lends goes after all have run.
    std::vector<RankDevice> devices(static_cast<size_t>(GetParam()));
    const std::vector<absl::Status> results = RunRanks(*group, [&](Communicator& communicator) {
      return body(communicator, devices[static_cast<size_t>(communicator.rank())]);
    });
    for (size_t rank = 0; rank < results.size(); ++rank) {
      EXPECT_TRUE(results[rank].ok()) << "rank " << rank << ": " << results[rank];
    }
  }
};

constexpr int64_t kSizes[] = {0, 1, 7, 500, 9000, 3};

TEST_P(VirtualRanks, AllGatherPutsEveryRanksRowsInRankOrder) {
  ExpectAllOk([](Communicator& communicator, RankDevice& device) {
    int step = 0;
    for (const int64_t size : kSizes) {
      const DeviceRows send = device.Put(SentBy(communicator.rank(), step, size));
      const DeviceRows recv = device.Make(size * communicator.num_ranks());
      MOED_RETURN_IF_ERROR(communicator.AllGather(
          device.stream(), {static_cast<uint64_t>(step), 0, "gather"}, send.view(), recv.view()));
      Numbers expected;
      for (int rank = 0; rank < communicator.num_ranks(); ++rank) {
        const Numbers part = SentBy(rank, step, size);
        expected.insert(expected.end(), part.begin(), part.end());
      }
      EXPECT_EQ(device.Get(recv), expected) << "size " << size << ", rank " << communicator.rank();
      ++step;
    }
    return absl::OkStatus();
  });
}

TEST_P(VirtualRanks, AllToAllBringsTheShareOfEveryRank) {
  ExpectAllOk([](Communicator& communicator, RankDevice& device) {
    const int num_ranks = communicator.num_ranks();
    int step = 0;
    for (const int64_t size : kSizes) {
      const DeviceRows send = device.Put(SentBy(communicator.rank(), step, size * num_ranks));
      const DeviceRows recv = device.Make(size * num_ranks);
      MOED_RETURN_IF_ERROR(communicator.AllToAll(
          device.stream(), {static_cast<uint64_t>(step), 1, "exchange"}, send.view(), recv.view()));
      Numbers expected;
      for (int rank = 0; rank < num_ranks; ++rank) {
        const Numbers theirs = SentBy(rank, step, size * num_ranks);
        const auto share = theirs.begin() + size * communicator.rank();
        expected.insert(expected.end(), share, share + size);
      }
      EXPECT_EQ(device.Get(recv), expected) << "size " << size << ", rank " << communicator.rank();
      ++step;
    }
    return absl::OkStatus();
  });
}

TEST_P(VirtualRanks, AllToAllVBringsAsManyRowsAsEachPairAgreedOn) {
  constexpr int64_t kWidth = 3;
  ExpectAllOk([](Communicator& communicator, RankDevice& device) {
    const int num_ranks = communicator.num_ranks();
    const int me = communicator.rank();
    int step = 0;
    for (const int64_t most : {0, 1, 5, 2000}) {
      Numbers send_rows;
      Numbers recv_rows;
      for (int peer = 0; peer < num_ranks; ++peer) {
        send_rows.push_back(RowsBetween(me, peer, step, most));
        recv_rows.push_back(RowsBetween(peer, me, step, most));
      }
      // A spare row in each buffer: views may be larger than what is sent.
      const int64_t num_sent = std::accumulate(send_rows.begin(), send_rows.end(), int64_t{0});
      const int64_t num_received = std::accumulate(recv_rows.begin(), recv_rows.end(), int64_t{0});
      const DeviceRows send = device.Put(SentBy(me, step, (num_sent + 1) * kWidth), kWidth);
      const DeviceRows recv = device.Make(num_received + 1, kWidth);
      MOED_RETURN_IF_ERROR(communicator.AllToAllV(device.stream(),
                                                  {static_cast<uint64_t>(step), 2, "rows"},
                                                  send.view(), send_rows, recv.view(), recv_rows));
      Numbers expected;
      for (int sender = 0; sender < num_ranks; ++sender) {
        int64_t before = 0;
        int64_t total = 0;
        for (int peer = 0; peer < num_ranks; ++peer) {
          const int64_t rows = RowsBetween(sender, peer, step, most);
          if (peer < me) before += rows;
          total += rows;
        }
        const Numbers theirs = SentBy(sender, step, (total + 1) * kWidth);
        const auto share = theirs.begin() + before * kWidth;
        expected.insert(expected.end(), share,
                        share + recv_rows[static_cast<size_t>(sender)] * kWidth);
      }
      expected.resize(expected.size() + kWidth, -1);  // the spare row stays as it was
      EXPECT_EQ(device.Get(recv), expected) << "at most " << most << " rows, rank " << me;
      ++step;
    }
    return absl::OkStatus();
  });
}

TEST_P(VirtualRanks, ExchangeCountsBringsEachRanksNumbersForThisOne) {
  constexpr int kWidth = 2;
  ExpectAllOk([](Communicator& communicator, RankDevice& device) {
    const int num_ranks = communicator.num_ranks();
    for (int step = 0; step < 20; ++step) {
      const Numbers send = SentBy(communicator.rank(), step, num_ranks * kWidth);
      Numbers recv(send.size());
      MOED_RETURN_IF_ERROR(communicator.ExchangeCounts(device.stream(),
                                                       {static_cast<uint64_t>(step), 3, "counts"},
                                                       kWidth, send, absl::MakeSpan(recv)));
      Numbers expected;
      for (int rank = 0; rank < num_ranks; ++rank) {
        const Numbers theirs = SentBy(rank, step, num_ranks * kWidth);
        const auto share = theirs.begin() + kWidth * communicator.rank();
        expected.insert(expected.end(), share, share + kWidth);
      }
      EXPECT_EQ(recv, expected) << "step " << step << ", rank " << communicator.rank();
    }
    return absl::OkStatus();
  });
}

TEST_P(VirtualRanks, ExchangeCountsReturnsWhenTheStreamHasRun) {
  ExpectAllOk([](Communicator& communicator, RankDevice& device) {
    const DeviceRows rows = device.Put({1, 2, 3});
    Numbers send(static_cast<size_t>(communicator.num_ranks()));
    Numbers recv(send.size());
    MOED_RETURN_IF_ERROR(communicator.ExchangeCounts(device.stream(), {0, 0, "counts"}, 1, send,
                                                     absl::MakeSpan(recv)));
    // Other ranks' streams may have work; in a group of one it is all there is.
    if (communicator.num_ranks() == 1) {
      EXPECT_EQ(cuda_host::CountPendingOperations(), 0);
    }
    return absl::OkStatus();
  });
}

// Many exchanges in a row, of which nothing has run until the end, through one buffer that is
// overwritten after each.
TEST_P(VirtualRanks, ManyExchangesMayBeEnqueuedBeforeAnyHasRun) {
  constexpr int kSteps = 30;
  constexpr int64_t kSize = 40;
  ExpectAllOk([](Communicator& communicator, RankDevice& device) {
    const int num_ranks = communicator.num_ranks();
    const DeviceRows send = device.Make(kSize);
    std::vector<DeviceRows> received;
    for (int step = 0; step < kSteps; ++step) {
      device.Fill(send, communicator.rank() * kSteps % 200 + step);
      received.push_back(device.Make(kSize * num_ranks));
      MOED_RETURN_IF_ERROR(communicator.AllGather(device.stream(),
                                                  {static_cast<uint64_t>(step), 0, "gather"},
                                                  send.view(), received.back().view()));
      device.Fill(send, 0xEE);
    }
    for (int step = 0; step < kSteps; ++step) {
      const Numbers numbers = device.Get(received[static_cast<size_t>(step)]);
      for (size_t i = 0; i < numbers.size(); ++i) {
        const int rank = static_cast<int>(i) / static_cast<int>(kSize);
        const auto byte = static_cast<uint64_t>(rank * kSteps % 200 + step);
        EXPECT_EQ(static_cast<uint64_t>(numbers[i]), 0x0101010101010101U * byte)
            << "step " << step << ", from rank " << rank << ", at rank " << communicator.rank();
      }
    }
    return absl::OkStatus();
  });
}

TEST_P(VirtualRanks, StatsCountTheBytesOfTheOthersOnly) {
  const int64_t others = GetParam() - 1;
  ExpectAllOk([&](Communicator& communicator, RankDevice& device) {
    const DeviceRows send = device.Make(5);
    const DeviceRows recv = device.Make(5 * communicator.num_ranks());
    MOED_RETURN_IF_ERROR(
        communicator.AllGather(device.stream(), {0, 0, "gather"}, send.view(), recv.view()));
    EXPECT_EQ(communicator.stats().bytes_sent, others * 40);
    EXPECT_EQ(communicator.stats().bytes_received, others * 40);
    EXPECT_GE(communicator.stats().wait_seconds, 0);
    return device.stream().Synchronize();
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, VirtualRanks, ::testing::Values(1, 2, 3, 8, 11));

TEST(VirtualRankGroup, RefusesNoRanksAndDeadlinesOutOfRange) {
  VirtualRankGroupOptions options;
  options.api = &cuda_host::HostCudaApi();
  const absl::StatusCode refused = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(VirtualRankGroup::Create(0, options).status().code(), refused);
  options.deadline = std::chrono::milliseconds(0);
  EXPECT_EQ(VirtualRankGroup::Create(2, options).status().code(), refused);
  options.deadline = std::chrono::milliseconds::max();
  EXPECT_EQ(VirtualRankGroup::Create(2, options).status().code(), refused);
}

TEST(VirtualRankGroup, GivesBackItsEventsWithTheLastEnd) {
  const int64_t before = cuda_host::CountLiveObjects().events;
  std::shared_ptr<VirtualRankGroup> group = MakeVirtualGroup(3);
  EXPECT_EQ(cuda_host::CountLiveObjects().events, before + 6);
  std::unique_ptr<Communicator> end = group->MakeEnd(1);
  group.reset();
  EXPECT_EQ(cuda_host::CountLiveObjects().events, before + 6);
  end.reset();
  EXPECT_EQ(cuda_host::CountLiveObjects().events, before);
}

TEST(VirtualRankGroup, AnEventThatCannotBeHadIsTheRuntimesError) {
  VirtualRankGroupOptions options;
  options.api = &cuda_host::HostCudaApi();
  const int64_t before = cuda_host::CountLiveObjects().events;
  cuda_host::FailCall("create_event", 3, 719);
  const absl::Status status = VirtualRankGroup::Create(2, options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("cudaErrorLaunchFailure"));
  EXPECT_EQ(cuda_host::CountLiveObjects().events, before);
}

}  // namespace
}  // namespace moed::cuda
