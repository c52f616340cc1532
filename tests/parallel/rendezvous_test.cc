#include "parallel/rendezvous.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"

namespace moed {
namespace {

using ::testing::HasSubstr;

constexpr std::chrono::milliseconds kLongEnough{120'000};

CollectiveCall Call(uint64_t step, int layer, const char* operation, bool lends_send = false) {
  CollectiveCall call;
  call.tag = {step, layer, operation};
  call.unit_bytes = 8;
  call.lends_send = lends_send;
  return call;
}

void AwaitWaiting(const Rendezvous& rendezvous, int num_ranks) {
  while (rendezvous.num_waiting() != num_ranks) std::this_thread::yield();
}

// Threads of ranks that come to `call` and keep what they were told.
class Arrivals {
 public:
  Arrivals(Rendezvous& rendezvous, std::vector<int> ranks, const CollectiveCall& call)
      : statuses_(ranks.size()) {
    for (size_t i = 0; i < ranks.size(); ++i) {
      threads_.emplace_back([this, &rendezvous, call, rank = ranks[i], i] {
        Meeting meeting;
        statuses_[i] = rendezvous.Arrive(rank, call, meeting);
      });
    }
  }
  std::vector<absl::Status> Join() {
    for (std::thread& thread : threads_) thread.join();
    return statuses_;
  }

 private:
  std::vector<absl::Status> statuses_;
  std::vector<std::thread> threads_;
};

TEST(Rendezvous, AnAbortTellsWhoEndedTheGroupAndWhereTheOthersWaited) {
  Rendezvous rendezvous(3, kLongEnough);
  Arrivals first(rendezvous, {0, 1, 2}, Call(7, 1, "combine"));
  for (const absl::Status& status : first.Join()) EXPECT_TRUE(status.ok()) << status;

  Arrivals waiting(rendezvous, {0, 2}, Call(7, 2, "dispatch rows"));
  AwaitWaiting(rendezvous, 2);
  rendezvous.Abort(1, absl::InternalError("out of luck"));
  for (const absl::Status& status : waiting.Join()) {
    EXPECT_EQ(status, absl::UnavailableError(
                          "rank 1 ended the group after combine of layer 1, step 7: out of luck; "
                          "ranks 0, 2 waited in dispatch rows of layer 2, step 7"));
  }
}

TEST(Rendezvous, AnAbortByTheOwnerNamesNoRank) {
  Rendezvous rendezvous(2, kLongEnough);
  rendezvous.Abort(Rendezvous::kOwner, absl::CancelledError("shutting down"));
  Meeting meeting;
  EXPECT_EQ(rendezvous.Arrive(0, Call(1, 0, "combine"), meeting),
            absl::UnavailableError("the group was ended: shutting down"));
}

TEST(Rendezvous, TheFirstFailureStays) {
  Rendezvous rendezvous(2, kLongEnough);
  rendezvous.Abort(0, absl::InternalError("first"));
  rendezvous.Abort(1, absl::InternalError("second"));
  Meeting meeting;
  EXPECT_EQ(rendezvous.Arrive(1, Call(1, 0, "combine"), meeting),
            absl::UnavailableError("rank 0 ended the group: first"));
}

TEST(Rendezvous, AnAbsentRankIsNamedWithThePlaceTheDeadlineAndWhoWaited) {
  Rendezvous rendezvous(4, std::chrono::milliseconds(20));
  Arrivals waiting(rendezvous, {0, 2}, Call(9, 5, "combine"));
  for (const absl::Status& status : waiting.Join()) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("3 did not come to combine of layer 5, step 9, within 20 ms"));
  }
}

TEST(Rendezvous, ARankThatHasLeftFailsWhoeverComesToWaitForIt) {
  Rendezvous rendezvous(2, kLongEnough);
  rendezvous.Leave(1);
  Meeting meeting;
  EXPECT_EQ(rendezvous.Arrive(0, Call(3, -1, "combine"), meeting),
            absl::UnavailableError(
                "rank 1 has left the group; rank 0 waited in combine outside the layers, step 3"));
}

TEST(Rendezvous, ARankThatLeavesFreesThoseThatWaitForIt) {
  Rendezvous rendezvous(3, kLongEnough);
  Arrivals waiting(rendezvous, {0, 1}, Call(3, 4, "combine"));
  AwaitWaiting(rendezvous, 2);
  rendezvous.Leave(2);
  for (const absl::Status& status : waiting.Join()) {
    EXPECT_EQ(status,
              absl::UnavailableError(
                  "rank 2 has left the group; ranks 0, 1 waited in combine of layer 4, step 3"));
  }
}

// Rank 0 lends memory that rank 1 still reads when the group fails.
TEST(Rendezvous, AFailureReachesTheLenderOnlyAfterItsMemoryIsNoLongerRead) {
  Rendezvous rendezvous(2, kLongEnough);
  std::atomic<bool> lender_was_told{false};
  std::thread lender([&] {
    Meeting meeting;
    ASSERT_TRUE(rendezvous.Arrive(0, Call(1, 0, "rows", true), meeting).ok());
    ASSERT_TRUE(meeting.must_depart);
    EXPECT_FALSE(rendezvous.Depart(0).ok());
    lender_was_told = true;
  });
  std::thread reader([&] {
    Meeting meeting;
    ASSERT_TRUE(rendezvous.Arrive(1, Call(1, 0, "rows"), meeting).ok());
    AwaitWaiting(rendezvous, 1);  // the lender waits in Depart
    rendezvous.Abort(Rendezvous::kOwner, absl::InternalError("stop"));
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();
    EXPECT_FALSE(lender_was_told);
    EXPECT_FALSE(rendezvous.Depart(1).ok());
  });
  lender.join();
  reader.join();
  EXPECT_TRUE(lender_was_told);
}

TEST(Rendezvous, MailsAloneNeedNoSecondRound) {
  Rendezvous rendezvous(1, kLongEnough);
  Meeting meeting;
  ASSERT_TRUE(rendezvous.Arrive(0, Call(1, 0, "rows", false), meeting).ok());
  EXPECT_FALSE(meeting.must_depart);
}

}  // namespace
}  // namespace moed
