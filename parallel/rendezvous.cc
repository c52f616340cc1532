#include "parallel/rendezvous.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/core/check.h"
#include "kernels/core/mutex.h"
#include "kernels/core/status.h"

namespace moed {
namespace {

constexpr std::chrono::milliseconds kLongestDeadline = std::chrono::hours(24);

}  // namespace

absl::Status CheckGroup(int num_ranks, std::chrono::milliseconds deadline) {
  if (num_ranks < 1) {
    return absl::InvalidArgumentError(absl::StrCat("a group of ", num_ranks, " ranks"));
  }
  if (deadline.count() <= 0 || deadline > kLongestDeadline) {
    return absl::InvalidArgumentError(absl::StrCat("a rank deadline of ", deadline.count(),
                                                   " ms: it lies between 1 ms and 24 hours"));
  }
  return absl::OkStatus();
}

Rendezvous::Rendezvous(int num_ranks, std::chrono::milliseconds deadline)
    : num_ranks_(num_ranks),
      deadline_(deadline),
      has_arrived_(static_cast<size_t>(num_ranks), false),
      has_left_(static_cast<size_t>(num_ranks), false),
      arriving_(static_cast<size_t>(num_ranks)) {}

absl::Status Rendezvous::Arrive(int rank, const CollectiveCall& call, Meeting& meeting) {
  bool is_last = false;
  {
    MutexLock lock(mutex_);
    if (!failure_.ok()) return FailureAfterReaders();
    arriving_[static_cast<size_t>(rank)] = call;
    is_last = EnterRound(rank);
    if (is_last) {
      const absl::Status agreement = CheckAgreement(arriving_);
      if (!agreement.ok()) {
        Fail(agreement);
        return FailureAfterReaders();
      }
      met_.calls = arriving_;
      met_.must_depart = std::any_of(arriving_.begin(), arriving_.end(),
                                     [](const CollectiveCall& other) { return other.lends_send; });
    } else {
      MOED_RETURN_IF_ERROR(AwaitRound(rank));
    }
    meeting = met_;
    if (met_.must_depart) ++num_reading_;
  }
  if (is_last) round_over_.NotifyAll();
  return absl::OkStatus();
}

absl::Status Rendezvous::Depart(int rank) {
  bool is_last = false;
  {
    MutexLock lock(mutex_);
    if (--num_reading_ == 0 && !failure_.ok()) readers_gone_.NotifyAll();
    if (!failure_.ok()) return FailureAfterReaders();
    is_last = EnterRound(rank);
    if (!is_last) return AwaitRound(rank);
  }
  round_over_.NotifyAll();
  return absl::OkStatus();
}

void Rendezvous::Abort(int rank, const absl::Status& reason) {
  MOED_CHECK(!reason.ok(), "a group is aborted without a reason");
  MutexLock lock(mutex_);
  if (!failure_.ok()) return;
  std::string who = "the group was ended";
  if (rank != kOwner) {
    const char* operation = arriving_[static_cast<size_t>(rank)].tag.operation;
    const bool has_called = *operation != '\0';
    who = absl::StrCat(
        "rank ", rank, " ended the group",
        has_called ? absl::StrCat(" after ", DescribeTag(arriving_[static_cast<size_t>(rank)].tag))
                   : std::string());
  }
  Fail(absl::UnavailableError(absl::StrCat(who, ": ", reason.message(), DescribeWaiting())));
}

void Rendezvous::Leave(int rank) {
  MutexLock lock(mutex_);
  has_left_[static_cast<size_t>(rank)] = true;
  if (num_arrived_ > 0) FailIfAbsentRankLeft();
}

int Rendezvous::num_waiting() const {
  MutexLock lock(mutex_);
  return num_arrived_;
}

bool Rendezvous::EnterRound(int rank) {
  MOED_CHECK(!has_arrived_[static_cast<size_t>(rank)], "a rank is in two collectives at once");
  if (num_arrived_ == 0) round_deadline_ = std::chrono::steady_clock::now() + deadline_;
  has_arrived_[static_cast<size_t>(rank)] = true;
  if (++num_arrived_ < num_ranks_) {
    FailIfAbsentRankLeft();
    return false;
  }
  num_arrived_ = 0;
  std::fill(has_arrived_.begin(), has_arrived_.end(), false);
  ++round_;
  return true;
}

absl::Status Rendezvous::AwaitRound(int rank) {
  const uint64_t round = round_;
  while (round_ == round && failure_.ok()) {
    const bool in_time = round_over_.WaitUntil(mutex_, round_deadline_);
    if (in_time || round_ != round || !failure_.ok()) continue;
    Fail(absl::UnavailableError(absl::StrCat(ListRanks(false), " did not come to ",
                                             DescribeTag(arriving_[static_cast<size_t>(rank)].tag),
                                             ", within ", deadline_.count(), " ms of the first; ",
                                             ListRanks(true), " waited there")));
  }
  if (!failure_.ok()) return FailureAfterReaders();
  return absl::OkStatus();
}

void Rendezvous::Fail(const absl::Status& failure) {
  if (!failure_.ok()) return;
  failure_ = failure;
  round_over_.NotifyAll();
}

absl::Status Rendezvous::FailureAfterReaders() {
  // Reading is a copy in memory: it ends by itself, however late its thread is.
  while (num_reading_ > 0) readers_gone_.Wait(mutex_);
  return failure_;
}

void Rendezvous::FailIfAbsentRankLeft() {
  for (int rank = 0; rank < num_ranks_; ++rank) {
    const auto index = static_cast<size_t>(rank);
    if (!has_left_[index] || has_arrived_[index]) continue;
    Fail(absl::UnavailableError(
        absl::StrCat("rank ", rank, " has left the group", DescribeWaiting())));
    return;
  }
}

std::string Rendezvous::ListRanks(bool arrived) const {
  std::vector<int> ranks;
  for (int rank = 0; rank < num_ranks_; ++rank) {
    if (has_arrived_[static_cast<size_t>(rank)] == arrived) ranks.push_back(rank);
  }
  return absl::StrCat(ranks.size() == 1 ? "rank " : "ranks ", absl::StrJoin(ranks, ", "));
}

std::string Rendezvous::DescribeWaiting() const {
  const auto first = std::find(has_arrived_.begin(), has_arrived_.end(), true);
  if (first == has_arrived_.end()) return "";
  const auto rank = static_cast<size_t>(first - has_arrived_.begin());
  return absl::StrCat("; ", ListRanks(true), " waited in ", DescribeTag(arriving_[rank].tag));
}

}  // namespace moed
