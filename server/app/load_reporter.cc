#include "server/app/load_reporter.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace moed {
namespace {

constexpr std::chrono::milliseconds kLiveInterval{100};
constexpr std::chrono::milliseconds kLogInterval{2000};

}  // namespace

void LoadReporter::Report(const RankProgress& progress) {
  const auto now = std::chrono::steady_clock::now();
  MutexLock lock(mutex_);
  auto phase = std::find(phases_.begin(), phases_.end(), progress.phase);
  if (phase == phases_.end()) phase = phases_.insert(phases_.end(), progress.phase);
  ranks_[progress.rank] = {static_cast<size_t>(phase - phases_.begin()), progress.fraction};
  const std::string slowest = Describe(SlowestRank());
  state_->SetProgress(absl::StrCat("the model is loading (", slowest, ")"));
  if (now - last_shown_ < (log_->interactive() ? kLiveInterval : kLogInterval)) return;
  last_shown_ = now;
  if (log_->interactive()) {
    log_->ShowLiveLine(absl::StrCat("loading, ", slowest));
    live_line_ = true;
    return;
  }
  std::vector<std::string> all;
  for (const auto& rank : ranks_) all.push_back(Describe(rank.first));
  log_->Info(absl::StrCat("loading, ", absl::StrJoin(all, ", ")));
}

std::string LoadReporter::Describe(int rank) const {
  const RankState& state = ranks_.at(rank);
  return absl::StrFormat("rank %d: %s %.0f %%", rank, phases_[state.phase], 100 * state.fraction);
}

int LoadReporter::SlowestRank() const {
  const auto behind = [](const auto& a, const auto& b) {
    return std::make_pair(a.second.phase, a.second.fraction) <
           std::make_pair(b.second.phase, b.second.fraction);
  };
  return std::min_element(ranks_.begin(), ranks_.end(), behind)->first;
}

void LoadReporter::EndLiveLine() {
  MutexLock lock(mutex_);
  if (live_line_) log_->ShowLiveLine("");
  live_line_ = false;
}

}  // namespace moed
