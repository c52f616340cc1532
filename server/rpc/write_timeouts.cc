#include "server/rpc/write_timeouts.h"

#include <algorithm>

#include "kernels/core/check.h"

namespace moed {
namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

// How often the calls are looked at: a write is found stuck at most so much later.
steady_clock::duration Interval(nanoseconds timeout) {
  return std::clamp<nanoseconds>(timeout / 8, std::chrono::milliseconds(5),
                                 std::chrono::seconds(1));
}

}  // namespace

WriteTimeouts::WriteTimeouts(std::chrono::milliseconds timeout) : timeout_(timeout) {
  if (timeout.count() > 0) timer_ = std::thread([this] { RunTimer(); });
}

WriteTimeouts::~WriteTimeouts() {
  {
    MutexLock lock(mutex_);
    MOED_CHECK(calls_.empty(), "a call outlives its watch");
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (timer_.joinable()) timer_.join();
}

void WriteTimeouts::Watch(TimedCall* call) {
  MutexLock lock(mutex_);
  calls_[call] = {};
}

void WriteTimeouts::Forget(TimedCall* call) {
  MutexLock lock(mutex_);
  calls_.erase(call);
  // On the timer's own thread the call ends inside of its OnWriteStuck.
  while (told_ == call && std::this_thread::get_id() != timer_.get_id()) changed_.Wait(mutex_);
}

size_t WriteTimeouts::num_calls() const {
  MutexLock lock(mutex_);
  return calls_.size();
}

int WriteTimeouts::TimeoutsToReport(TimedCall* call) {
  const auto found = calls_.find(call);
  if (found == calls_.end()) return 0;  // it has ended since
  Write& write = found->second;
  const int64_t since = call->since_;
  if (since != write.since) write = {.since = since, .reported = 0};
  if (since == 0) return 0;
  const steady_clock::duration pending =
      steady_clock::now().time_since_epoch() - steady_clock::duration(since);
  const int timeouts = static_cast<int>(std::min<int64_t>(pending / timeout_, 1 << 20));
  return timeouts > write.reported ? timeouts : 0;
}

std::vector<TimedCall*> WriteTimeouts::FindStuck() {
  std::vector<TimedCall*> stuck;
  for (const auto& [call, write] : calls_) {
    if (TimeoutsToReport(call) > 0) stuck.push_back(call);
  }
  return stuck;
}

void WriteTimeouts::RunTimer() {
  mutex_.Lock();
  while (!stopping_) {
    for (TimedCall* call : FindStuck()) {
      const int timeouts = TimeoutsToReport(call);
      if (timeouts == 0) continue;
      calls_[call].reported = timeouts;
      told_ = call;
      mutex_.Unlock();
      call->OnWriteStuck(timeouts);
      mutex_.Lock();
      told_ = nullptr;
      changed_.NotifyAll();
    }
    const TimePoint next = steady_clock::now() + Interval(timeout_);
    while (!stopping_ && changed_.WaitUntil(mutex_, next)) {
    }
  }
  mutex_.Unlock();
}

}  // namespace moed
