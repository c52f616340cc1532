#include "runtime/engine/rank_board.h"

#include <cstddef>
#include <utility>

#include "kernels/core/check.h"

namespace moed {

RankBoard::RankBoard(int num_ranks) : num_running_(num_ranks), num_present_(num_ranks) {
  for (int rank = 0; rank < num_ranks; ++rank) ranks_.push_back(std::make_unique<Rank>());
}

void RankBoard::Post(std::vector<RankBatch> batches) {
  MutexLock lock(mutex_);
  MOED_CHECK(num_running_ == 0, "a step is launched while another runs");
  MOED_CHECK(batches.size() == ranks_.size(), "a step has one batch a rank");
  num_running_ = static_cast<int>(ranks_.size());
  for (size_t r = 0; r < ranks_.size(); ++r) {
    Rank& rank = *ranks_[r];
    rank.batch = std::move(batches[r]);
    rank.has_batch = true;
    rank.finished = false;
    rank.work_posted.NotifyOne();
  }
}

RankBoard::Round RankBoard::WaitForRound(TimePoint deadline) {
  MutexLock lock(mutex_);
  while (num_running_ > 0 && failure_.ok()) {
    if (!rank_changed_.WaitUntil(mutex_, deadline)) break;
  }
  if (!failure_.ok()) return Round::kFailed;
  return num_running_ == 0 ? Round::kDone : Round::kRunning;
}

bool RankBoard::IsFinished(int rank) const {
  MutexLock lock(mutex_);
  return ranks_[static_cast<size_t>(rank)]->finished;
}

std::vector<RankResult> RankBoard::TakeResults() {
  MutexLock lock(mutex_);
  MOED_CHECK(num_running_ == 0, "the results of a round that is not over");
  std::vector<RankResult> results;
  results.reserve(ranks_.size());
  for (const std::unique_ptr<Rank>& rank : ranks_) results.push_back(std::move(rank->result));
  return results;
}

absl::Status RankBoard::failure() const {
  MutexLock lock(mutex_);
  return failure_;
}

void RankBoard::Stop() {
  MutexLock lock(mutex_);
  stopping_ = true;
  for (const std::unique_ptr<Rank>& rank : ranks_) rank->work_posted.NotifyOne();
}

bool RankBoard::WaitForExit(TimePoint deadline) {
  MutexLock lock(mutex_);
  while (num_present_ > 0) {
    if (!rank_changed_.WaitUntil(mutex_, deadline)) break;
  }
  return num_present_ == 0;
}

bool RankBoard::HasLeft(int rank) const {
  MutexLock lock(mutex_);
  return ranks_[static_cast<size_t>(rank)]->left;
}

bool RankBoard::Take(int rank, RankBatch& batch) {
  MutexLock lock(mutex_);
  Rank& mine = *ranks_[static_cast<size_t>(rank)];
  while (!mine.has_batch && !stopping_) mine.work_posted.Wait(mutex_);
  if (stopping_) return false;
  mine.has_batch = false;
  batch = std::move(mine.batch);
  return true;
}

void RankBoard::Finish(int rank, absl::StatusOr<RankResult> result) {
  MutexLock lock(mutex_);
  Rank& mine = *ranks_[static_cast<size_t>(rank)];
  mine.finished = true;
  --num_running_;
  if (result.ok()) {
    mine.result = *std::move(result);
  } else if (failure_.ok()) {
    failure_ = result.status();
  }
  if (num_running_ == 0 || !failure_.ok()) rank_changed_.NotifyAll();
}

void RankBoard::Leave(int rank) {
  MutexLock lock(mutex_);
  ranks_[static_cast<size_t>(rank)]->left = true;
  --num_present_;
  rank_changed_.NotifyAll();
}

}  // namespace moed
