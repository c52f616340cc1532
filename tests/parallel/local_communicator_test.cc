#include "parallel/local_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "kernels/core/status.h"
#include "kernels/core/stream.h"
#include "kernels/core/tensor_view.h"
#include "tests/parallel/rank_threads.h"

namespace moed {
namespace {

using Numbers = std::vector<int64_t>;

constexpr uint64_t kSeed = 20;

ConstTensorView Rows(const Numbers& numbers, int64_t width) {
  return ConstTensorView(numbers.data(), DType::kInt64,
                         {static_cast<int64_t>(numbers.size()) / width, width});
}

TensorView Rows(Numbers& numbers, int64_t width) {
  return TensorView(numbers.data(), DType::kInt64,
                    {static_cast<int64_t>(numbers.size()) / width, width});
}

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

class Collectives : public ::testing::TestWithParam<int> {
 protected:
  void ExpectAllOk(const std::function<absl::Status(Communicator&)>& body) {
    const std::shared_ptr<LocalGroup> group = MakeGroup(GetParam());
    const std::vector<absl::Status> results = RunRanks(*group, body);
    for (size_t rank = 0; rank < results.size(); ++rank) {
      EXPECT_TRUE(results[rank].ok()) << "rank " << rank << ": " << results[rank];
    }
  }
  Stream stream_;
};

// Sizes on both sides of what a mailbox holds (8192 numbers), and none at all.
constexpr int64_t kSizes[] = {0, 1, 7, 500, 9000, 3};

TEST_P(Collectives, AllGatherPutsEveryRanksRowsInRankOrder) {
  ExpectAllOk([&](Communicator& communicator) {
    int step = 0;
    for (const int64_t size : kSizes) {
      const Numbers send = SentBy(communicator.rank(), step, size);
      Numbers recv(static_cast<size_t>(size * communicator.num_ranks()), -1);
      const CollectiveTag tag{static_cast<uint64_t>(step), 0, "gather"};
      MOED_RETURN_IF_ERROR(communicator.AllGather(stream_, tag, Rows(send, 1), Rows(recv, 1)));
      Numbers expected;
      for (int rank = 0; rank < communicator.num_ranks(); ++rank) {
        const Numbers part = SentBy(rank, step, size);
        expected.insert(expected.end(), part.begin(), part.end());
      }
      EXPECT_EQ(recv, expected) << "size " << size << ", rank " << communicator.rank();
      ++step;
    }
    return absl::OkStatus();
  });
}

TEST_P(Collectives, AllToAllBringsTheShareOfEveryRank) {
  ExpectAllOk([&](Communicator& communicator) {
    const int num_ranks = communicator.num_ranks();
    int step = 0;
    for (const int64_t size : kSizes) {
      const Numbers send = SentBy(communicator.rank(), step, size * num_ranks);
      Numbers recv(send.size(), -1);
      const CollectiveTag tag{static_cast<uint64_t>(step), 1, "exchange"};
      MOED_RETURN_IF_ERROR(communicator.AllToAll(stream_, tag, Rows(send, 1), Rows(recv, 1)));
      Numbers expected;
      for (int rank = 0; rank < num_ranks; ++rank) {
        const Numbers theirs = SentBy(rank, step, size * num_ranks);
        const auto share = theirs.begin() + size * communicator.rank();
        expected.insert(expected.end(), share, share + size);
      }
      EXPECT_EQ(recv, expected) << "size " << size << ", rank " << communicator.rank();
      ++step;
    }
    return absl::OkStatus();
  });
}

TEST_P(Collectives, AllToAllVBringsAsManyRowsAsEachPairAgreedOn) {
  constexpr int64_t kWidth = 3;
  ExpectAllOk([&](Communicator& communicator) {
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
      const Numbers send = SentBy(me, step, (num_sent + 1) * kWidth);
      Numbers recv(static_cast<size_t>((num_received + 1) * kWidth), -1);
      const CollectiveTag tag{static_cast<uint64_t>(step), 2, "rows"};
      MOED_RETURN_IF_ERROR(communicator.AllToAllV(stream_, tag, Rows(send, kWidth), send_rows,
                                                  Rows(recv, kWidth), recv_rows));
      Numbers expected;
      for (int sender = 0; sender < num_ranks; ++sender) {
        int64_t before = 0;
        for (int peer = 0; peer < me; ++peer) before += RowsBetween(sender, peer, step, most);
        int64_t total = 0;
        for (int peer = 0; peer < num_ranks; ++peer) {
          total += RowsBetween(sender, peer, step, most);
        }
        const Numbers theirs = SentBy(sender, step, (total + 1) * kWidth);
        const auto share = theirs.begin() + before * kWidth;
        expected.insert(expected.end(), share,
                        share + recv_rows[static_cast<size_t>(sender)] * kWidth);
      }
      expected.resize(recv.size(), -1);  // the spare row stays as it was
      EXPECT_EQ(recv, expected) << "at most " << most << " rows, rank " << me;
      ++step;
    }
    return absl::OkStatus();
  });
}

TEST_P(Collectives, ExchangeCountsBringsEachRanksNumbersForThisOne) {
  constexpr int kWidth = 2;
  ExpectAllOk([&](Communicator& communicator) {
    const int num_ranks = communicator.num_ranks();
    const Numbers send = SentBy(communicator.rank(), 0, num_ranks * kWidth);
    Numbers recv(send.size());
    MOED_RETURN_IF_ERROR(
        communicator.ExchangeCounts(stream_, {0, 3, "counts"}, kWidth, send, absl::MakeSpan(recv)));
    Numbers expected;
    for (int rank = 0; rank < num_ranks; ++rank) {
      const Numbers theirs = SentBy(rank, 0, num_ranks * kWidth);
      const auto share = theirs.begin() + kWidth * communicator.rank();
      expected.insert(expected.end(), share, share + kWidth);
    }
    EXPECT_EQ(recv, expected) << "rank " << communicator.rank();
    return absl::OkStatus();
  });
}

TEST_P(Collectives, SendersMayOverwriteTheirBuffersAtOnce) {
  ExpectAllOk([&](Communicator& communicator) {
    for (const int64_t size : {int64_t{4}, int64_t{10'000}}) {
      Numbers send(static_cast<size_t>(size));
      Numbers recv(static_cast<size_t>(size * communicator.num_ranks()));
      for (int step = 0; step < 50; ++step) {
        send.assign(send.size(), communicator.rank() * 1000 + step);
        const CollectiveTag tag{static_cast<uint64_t>(step), 0, "gather"};
        MOED_RETURN_IF_ERROR(communicator.AllGather(stream_, tag, Rows(send, 1), Rows(recv, 1)));
        send.assign(send.size(), -1);
        for (int rank = 0; rank < communicator.num_ranks(); ++rank) {
          const auto first = static_cast<size_t>(rank * size);
          const auto last = static_cast<size_t>((rank + 1) * size - 1);
          EXPECT_EQ(recv[first], rank * 1000 + step);
          EXPECT_EQ(recv[last], rank * 1000 + step);
        }
      }
    }
    return absl::OkStatus();
  });
}

TEST_P(Collectives, StatsCountTheBytesOfTheOthersOnly) {
  const int64_t others = GetParam() - 1;
  ExpectAllOk([&](Communicator& communicator) {
    const Numbers send(5, 1);
    Numbers recv(static_cast<size_t>(5 * communicator.num_ranks()));
    MOED_RETURN_IF_ERROR(
        communicator.AllGather(stream_, {0, 0, "gather"}, Rows(send, 1), Rows(recv, 1)));
    EXPECT_EQ(communicator.stats().bytes_sent, others * 40);
    EXPECT_EQ(communicator.stats().bytes_received, others * 40);
    EXPECT_GE(communicator.stats().wait_seconds, 0);
    return absl::OkStatus();
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, Collectives, ::testing::Values(1, 2, 3, 4, 8, 11));

TEST(LocalGroup, RefusesNoRanksAndDeadlinesOutOfRange) {
  using std::chrono::milliseconds;
  const absl::StatusCode refused = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(LocalGroup::Create(0, {}).status().code(), refused);
  EXPECT_EQ(LocalGroup::Create(2, {milliseconds(0)}).status().code(), refused);
  EXPECT_EQ(LocalGroup::Create(2, {milliseconds::max()}).status().code(), refused);
}

}  // namespace
}  // namespace moed
