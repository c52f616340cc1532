// What a group of ranks of one device does when a rank calls something else, fails, or stays away.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "kernels/core/status.h"
#include "tests/parallel/cuda/rank_device.h"

namespace moed::cuda {
namespace {

using ::testing::HasSubstr;

// An all-gather from memory that goes once the rank's own stream has run: whatever the others do.
absl::Status Gather(Communicator& communicator, const CollectiveTag& tag, int64_t size = 4) {
  RankDevice device;
  const DeviceRows send = device.Make(size);
  const DeviceRows recv = device.Make(size * communicator.num_ranks());
  const absl::Status status =
      communicator.AllGather(device.stream(), tag, send.view(), recv.view());
  EXPECT_TRUE(device.stream().Synchronize().ok());
  return status;
}

void ExpectAll(const std::vector<absl::Status>& results, const std::string& text) {
  for (size_t rank = 0; rank < results.size(); ++rank) {
    EXPECT_EQ(results[rank], absl::UnavailableError(text)) << "rank " << rank;
  }
}

TEST(VirtualRankFailure, ARankInAnotherLayerIsNamedToAll) {
  const auto group = MakeVirtualGroup(4);
  ExpectAll(RunRanks(*group,
                     [](Communicator& communicator) {
                       const int layer = communicator.rank() == 2 ? 6 : 5;
                       return Gather(communicator, {3, layer, "combine"});
                     }),
            "rank 2 called all-gather for combine of layer 6, step 3, with 32 bytes a rank, where "
            "rank 0 called all-gather for combine of layer 5, step 3, with 32 bytes a rank");
}

TEST(VirtualRankFailure, AnotherSizeIsNamedToAll) {
  const auto group = MakeVirtualGroup(3);
  ExpectAll(
      RunRanks(*group,
               [](Communicator& communicator) {
                 return Gather(communicator, {1, 2, "combine"}, communicator.rank() == 1 ? 200 : 4);
               }),
      "rank 1 called all-gather for combine of layer 2, step 1, with 1600 bytes a rank, where "
      "rank 0 called all-gather for combine of layer 2, step 1, with 32 bytes a rank");
}

TEST(VirtualRankFailure, CountsThatDoNotMatchNameThePair) {
  const auto group = MakeVirtualGroup(3);
  ExpectAll(RunRanks(*group,
                     [](Communicator& communicator) {
                       RankDevice device;
                       const Numbers one_each(3, 1);
                       Numbers expected(3, 1);
                       if (communicator.rank() == 2) expected[1] = 2;
                       const DeviceRows send = device.Make(4);
                       const DeviceRows recv = device.Make(4);
                       const absl::Status status =
                           communicator.AllToAllV(device.stream(), {4, 1, "combine"}, send.view(),
                                                  one_each, recv.view(), expected);
                       EXPECT_TRUE(device.stream().Synchronize().ok());
                       return status;
                     }),
            "rank 1 sends 1 rows to rank 2, which expects 2, for combine of layer 1, step 4");
}

TEST(VirtualRankFailure, EveryLaterCallReturnsTheSameError) {
  const auto group = MakeVirtualGroup(3);
  const auto results = RunRanks(*group, [](Communicator& communicator) {
    const absl::Status first = Gather(communicator, {1, communicator.rank(), "combine"});
    EXPECT_EQ(Gather(communicator, {2, 0, "combine"}), first);
    communicator.Abort(absl::InternalError("too late"));
    RankDevice device;
    const Numbers send(3);
    Numbers recv(3);
    EXPECT_EQ(communicator.ExchangeCounts(device.stream(), {3, 0, "counts"}, 1, send,
                                          absl::MakeSpan(recv)),
              first);
    return first;
  });
  for (const absl::Status& status : results) EXPECT_EQ(status, results[0]);
  EXPECT_EQ(results[0].code(), absl::StatusCode::kUnavailable);
}

TEST(VirtualRankFailure, AnAbsentRankFreesTheOthersAtTheDeadline) {
  const auto group = MakeVirtualGroup(3, std::chrono::milliseconds(15));
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
  for (const absl::Status& status : results) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("2 did not come to dispatch rows of layer 3, step 11, within 15 ms"));
  }
  // The absent rank comes when the others have failed, and gone with their memory.
  EXPECT_EQ(Gather(*absent, {11, 3, "dispatch rows"}), results[0]);
}

TEST(VirtualRankFailure, ARankThatAbortsFreesAllOthers) {
  const auto group = MakeVirtualGroup(8);
  const auto results = RunRanks(*group, [](Communicator& communicator) -> absl::Status {
    MOED_RETURN_IF_ERROR(Gather(communicator, {5, 0, "combine"}));
    if (communicator.rank() == 6) {
      communicator.Abort(absl::InternalError("a worker threw"));
      return absl::OkStatus();
    }
    return Gather(communicator, {5, 1, "dispatch rows"});
  });
  for (size_t rank = 0; rank < results.size(); ++rank) {
    if (rank == 6) continue;
    EXPECT_THAT(
        std::string(results[rank].message()),
        HasSubstr("rank 6 ended the group after combine of layer 0, step 5: a worker threw"));
  }
}

// A rank whose own stream has run frees what it sent, in the middle of whatever the others do: a
// read of it that is still to come would be seen.
TEST(VirtualRankFailure, AnAbortFromAnyThreadLeavesNoReadOfMemoryThatIsGone) {
  for (int round = 0; round < 20; ++round) {
    const auto group = MakeVirtualGroup(4);
    std::thread watcher([&] { group->Abort(absl::CancelledError("shutting down")); });
    const auto results = RunRanks(*group, [&](Communicator& communicator) {
      for (uint64_t step = 0;; ++step) {
        const absl::Status status = Gather(communicator, {step, 0, "combine"}, 100);
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

TEST(VirtualRankFailure, ARankWhoseEndIsGoneFailsTheOthersAtOnce) {
  const auto group = MakeVirtualGroup(3);
  const auto results = RunRanks(*group, [](Communicator& communicator) {
    if (communicator.rank() == 1) return absl::OkStatus();
    return Gather(communicator, {2, 7, "combine"});
  });
  for (const int rank : {0, 2}) {
    EXPECT_THAT(std::string(results[static_cast<size_t>(rank)].message()),
                HasSubstr("rank 1 has left the group; rank"));
  }
}

TEST(VirtualRankFailure, ACallOfTheRuntimeThatFailsEndsTheGroup) {
  for (const char* function : {"record_event", "wait_event", "copy"}) {
    SCOPED_TRACE(function);
    const auto group = MakeVirtualGroup(2);
    cuda_host::FailCall(function, 1, 719);
    const auto results = RunRanks(*group, [](Communicator& communicator) {
      RankDevice device;
      const DeviceRows send = device.Make(4);
      const DeviceRows recv = device.Make(8);
      absl::Status status;
      // A failure of the last wait is known to the others at their next call.
      for (uint64_t step = 0; status.ok() && step < 2; ++step) {
        status =
            communicator.AllGather(device.stream(), {step, 0, "combine"}, send.view(), recv.view());
      }
      device.stream().Synchronize().IgnoreError();
      return status;
    });
    for (const absl::Status& status : results) {
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
      EXPECT_THAT(std::string(status.message()), HasSubstr("cudaErrorLaunchFailure (719)"));
    }
    cuda_host::ClearFailures();
  }
}

TEST(VirtualRankFailure, AStreamThatFailedEndsTheGroupAtTheExchangeOfCounts) {
  const auto group = MakeVirtualGroup(2);
  const auto results = RunRanks(*group, [](Communicator& communicator) {
    RankDevice device;
    if (communicator.rank() == 1) device.stream().Note(719, "ExpertFfn");
    const Numbers send(2);
    Numbers recv(2);
    return communicator.ExchangeCounts(device.stream(), {4, 1, "counts"}, 1, send,
                                       absl::MakeSpan(recv));
  });
  for (const absl::Status& status : results) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("ExpertFfn: cudaErrorLaunchFailure (719)"));
  }
}

}  // namespace
}  // namespace moed::cuda
