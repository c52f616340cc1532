#include "server/app/load_reporter.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace moed {
namespace {

constexpr std::chrono::milliseconds kLiveInterval{100};
constexpr std::chrono::seconds kLogInterval{2};

}  // namespace

void LoadReporter::Report(const RankProgress& progress) {
  const auto now = std::chrono::steady_clock::now();
  const std::string text = absl::StrFormat("rank %d: %s %.0f %%", progress.rank, progress.phase,
                                           100 * progress.fraction);
  state_->SetProgress(absl::StrCat("the model is loading (", text, ")"));
  MutexLock lock(mutex_);
  Phase& phase = phases_[absl::StrCat(progress.rank, progress.phase)];
  const bool done = progress.fraction >= 1;
  if (log_->interactive()) {
    if (!done && now - phase.last_shown < kLiveInterval) return;
    phase.last_shown = now;
    std::fprintf(stderr, "\r\033[K%s", text.c_str());
    live_line_ = true;
    return;
  }
  if (phase.done_shown || (!done && now - phase.last_shown < kLogInterval)) return;
  phase.last_shown = now;
  phase.done_shown = done;
  log_->Info(text);
}

void LoadReporter::EndLiveLine() {
  MutexLock lock(mutex_);
  if (live_line_) std::fputs("\r\033[K", stderr);
  live_line_ = false;
}

}  // namespace moed
