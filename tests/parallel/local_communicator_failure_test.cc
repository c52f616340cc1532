// What a group of rank threads does when a rank calls something else, fails, or stays away.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "kernels/core/status.h"
#include "kernels/core/stream.h"
#include "kernels/core/tensor_view.h"
#include "parallel/local_communicator.h"
#include "tests/parallel/rank_threads.h"

namespace moed {
namespace {

using ::testing::HasSubstr;

// An all-gather of `size` numbers from memory that goes when the call has returned.
absl::Status Gather(Communicator& communicator, const CollectiveTag& tag, int64_t size = 4) {
  Stream stream;
  const std::vector<int64_t> send(static_cast<size_t>(size), communicator.rank());
  std::vector<int64_t> recv(static_cast<size_t>(size * communicator.num_ranks()));
  return communicator.AllGather(
      stream, tag, ConstTensorView(send.data(), DType::kInt64, {size}),
      TensorView(recv.data(), DType::kInt64, {size * communicator.num_ranks()}));
}

absl::Status AllToAll(Communicator& communicator, const CollectiveTag& tag) {
  Stream stream;
  const std::vector<int64_t> send(static_cast<size_t>(communicator.num_ranks()));
  std::vector<int64_t> recv(send.size());
  return communicator.AllToAll(
      stream, tag, ConstTensorView(send.data(), DType::kInt64, {communicator.num_ranks()}),
      TensorView(recv.data(), DType::kInt64, {communicator.num_ranks()}));
}

void ExpectAll(const std::vector<absl::Status>& results, const std::string& text) {
  for (size_t rank = 0; rank < results.size(); ++rank) {
    EXPECT_EQ(results[rank], absl::UnavailableError(text)) << "rank " << rank;
  }
}

TEST(LocalCommunicatorFailure, ARankInAnotherLayerIsNamedToAll) {
  const auto group = MakeGroup(4);
  ExpectAll(RunRanks(*group,
                     [](Communicator& communicator) {
                       const int layer = communicator.rank() == 2 ? 6 : 5;
                       return Gather(communicator, {3, layer, "combine"});
                     }),
            "rank 2 called all-gather for combine of layer 6, step 3, with 32 bytes a rank, where "
            "rank 0 called all-gather for combine of layer 5, step 3, with 32 bytes a rank");
}

TEST(LocalCommunicatorFailure, RankZeroIsNamedWhenItIsTheOddOne) {
  const auto group = MakeGroup(3);
  ExpectAll(RunRanks(*group,
                     [](Communicator& communicator) {
                       const uint64_t step = communicator.rank() == 0 ? 9 : 8;
                       return Gather(communicator, {step, 0, "combine"});
                     }),
            "rank 0 called all-gather for combine of layer 0, step 9, with 32 bytes a rank, where "
            "rank 1 called all-gather for combine of layer 0, step 8, with 32 bytes a rank");
}

TEST(LocalCommunicatorFailure, AnotherKindOfCollectiveIsNamedToAll) {
  const auto group = MakeGroup(3);
  ExpectAll(RunRanks(*group,
                     [](Communicator& communicator) {
                       const CollectiveTag tag{1, 2, "combine"};
                       return communicator.rank() == 1 ? AllToAll(communicator, tag)
                                                       : Gather(communicator, tag, 1);
                     }),
            "rank 1 called all-to-all for combine of layer 2, step 1, with 8 bytes a rank, where "
            "rank 0 called all-gather for combine of layer 2, step 1, with 8 bytes a rank");
}

TEST(LocalCommunicatorFailure, AnotherOperationIsNamedToAll) {
  const auto group = MakeGroup(3);
  const auto results = RunRanks(*group, [](Communicator& communicator) {
    return Gather(communicator, {1, 2, communicator.rank() == 2 ? "dispatch ids" : "combine"});
  });
  for (const absl::Status& status : results) {
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("rank 2 called all-gather for dispatch ids of layer 2, step 1"));
  }
}

TEST(LocalCommunicatorFailure, AnotherSizeIsNamedToAll) {
  const auto group = MakeGroup(3);
  ExpectAll(
      RunRanks(
          *group,
          [](Communicator& communicator) {
            return Gather(communicator, {1, 2, "combine"}, communicator.rank() == 1 ? 20'000 : 4);
          }),
      "rank 1 called all-gather for combine of layer 2, step 1, with 160000 bytes a rank, where "
      "rank 0 called all-gather for combine of layer 2, step 1, with 32 bytes a rank");
}

TEST(LocalCommunicatorFailure, CountsThatDoNotMatchNameThePair) {
  const auto group = MakeGroup(3);
  ExpectAll(RunRanks(*group,
                     [](Communicator& communicator) {
                       Stream stream;
                       const std::vector<int64_t> one_each(3, 1);
                       std::vector<int64_t> expected(3, 1);
                       if (communicator.rank() == 2) expected[1] = 2;
                       const std::vector<int64_t> send(4);
                       std::vector<int64_t> recv(4);
                       return communicator.AllToAllV(
                           stream, {4, 1, "combine"},
                           ConstTensorView(send.data(), DType::kInt64, {4}), one_each,
                           TensorView(recv.data(), DType::kInt64, {4}), expected);
                     }),
            "rank 1 sends 1 rows to rank 2, which expects 2, for combine of layer 1, step 4");
}

TEST(LocalCommunicatorFailure, EveryLaterCallReturnsTheSameError) {
  const auto group = MakeGroup(3);
  const auto results = RunRanks(*group, [](Communicator& communicator) {
    const absl::Status first = Gather(communicator, {1, communicator.rank(), "combine"});
    EXPECT_EQ(Gather(communicator, {2, 0, "combine"}), first);
    EXPECT_EQ(AllToAll(communicator, {2, 0, "combine"}), first);
    communicator.Abort(absl::InternalError("too late"));
    EXPECT_EQ(Gather(communicator, {3, 0, "combine"}), first);
    return first;
  });
  for (const absl::Status& status : results) EXPECT_EQ(status, results[0]);
  EXPECT_EQ(results[0].code(), absl::StatusCode::kUnavailable);
}

TEST(LocalCommunicatorFailure, AnAbsentRankFreesTheOthersAtTheDeadline) {
  const auto group = MakeGroup(3, std::chrono::milliseconds(15));
  const std::unique_ptr<Communicator> absent = group->MakeEnd(2);
  std::vector<absl::Status> results(2);
  std::vector<std::thread> threads;
  for (const int rank : {0, 1}) {
    threads.emplace_back([&, rank] {
      const std::unique_ptr<Communicator> communicator = group->MakeEnd(rank);
      results[static_cast<size_t>(rank)] = Gather(*communicator, {11, 3, "dispatch rows"});
    });
  }
  for (std::thread& thread : threads) thread.join();
  // On a busy machine the deadline may pass before the second of them has come: it is then named
  // before the absent one, which stays the last of the list.
  for (const absl::Status& status : results) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("2 did not come to dispatch rows of layer 3, step 11, within 15 ms"));
  }
  // The absent rank comes when the others have failed, and gone with their memory.
  EXPECT_EQ(Gather(*absent, {11, 3, "dispatch rows"}, 20'000), results[0]);
}

TEST(LocalCommunicatorFailure, ALateRankOutlivesTheGroupItself) {
  auto group = MakeGroup(2, std::chrono::milliseconds(5));
  std::unique_ptr<Communicator> late = group->MakeEnd(1);
  absl::Status first;
  {
    const std::unique_ptr<Communicator> early = group->MakeEnd(0);
    first = Gather(*early, {1, 0, "combine"}, 20'000);
  }
  group.reset();
  EXPECT_EQ(Gather(*late, {1, 0, "combine"}, 20'000), first);
}

TEST(LocalCommunicatorFailure, ARankThatAbortsFreesAllOthers) {
  const auto group = MakeGroup(8);
  const auto results = RunRanks(*group, [](Communicator& communicator) -> absl::Status {
    MOED_RETURN_IF_ERROR(Gather(communicator, {5, 0, "combine"}));
    if (communicator.rank() == 6) {
      communicator.Abort(absl::InternalError("a worker threw"));
      return absl::OkStatus();
    }
    return Gather(communicator, {5, 1, "dispatch rows"}, 20'000);
  });
  for (size_t rank = 0; rank < results.size(); ++rank) {
    if (rank == 6) continue;
    EXPECT_EQ(results[rank].code(), absl::StatusCode::kUnavailable) << "rank " << rank;
    EXPECT_THAT(
        std::string(results[rank].message()),
        HasSubstr("rank 6 ended the group after combine of layer 0, step 5: a worker threw"));
  }
}

TEST(LocalCommunicatorFailure, AnAbortFromAnyThreadMeetsRanksInTheMiddleOfTheirWork) {
  for (int round = 0; round < 20; ++round) {
    const auto group = MakeGroup(4);
    std::thread watcher([&] { group->Abort(absl::CancelledError("shutting down")); });
    const auto results = RunRanks(*group, [&](Communicator& communicator) {
      // Memory is lent and freed again at each call, so that a read after a failure is seen.
      for (uint64_t step = 0;; ++step) {
        const absl::Status status = Gather(communicator, {step, 0, "combine"}, 10'000);
        if (!status.ok()) return status;
      }
    });
    watcher.join();
    for (const absl::Status& status : results) {
      EXPECT_EQ(status, results[0]);
      EXPECT_THAT(std::string(status.message()), HasSubstr("the group was ended: shutting down"));
    }
  }
}

TEST(LocalCommunicatorFailure, ARankWhoseEndIsGoneFailsTheOthersAtOnce) {
  const auto group = MakeGroup(3);
  const auto results = RunRanks(*group, [](Communicator& communicator) {
    if (communicator.rank() == 1) return absl::OkStatus();
    return Gather(communicator, {2, 7, "combine"});
  });
  for (const int rank : {0, 2}) {
    EXPECT_THAT(std::string(results[static_cast<size_t>(rank)].message()),
                HasSubstr("rank 1 has left the group; rank"));
  }
}

TEST(LocalCommunicatorFailure, EndsThatGoAfterTheirLastCollectiveFailNobody) {
  for (int round = 0; round < 50; ++round) {
    const auto group = MakeGroup(8);
    const auto results = RunRanks(*group, [round](Communicator& communicator) {
      return Gather(communicator, {1, 1, "combine"}, round % 2 == 0 ? 10'000 : 1);
    });
    for (const absl::Status& status : results) ASSERT_TRUE(status.ok()) << status;
  }
}

}  // namespace
}  // namespace moed
