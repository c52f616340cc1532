#include "server/app/daemon_events.h"

#include <algorithm>
#include <utility>

#include "kernels/core/check.h"

namespace moed {

void DaemonEvents::PostSignal() {
  MutexLock lock(mutex_);
  ++signals_;
  changed_.NotifyAll();
}

void DaemonEvents::PostDrain(std::optional<std::chrono::milliseconds> timeout) {
  MutexLock lock(mutex_);
  if (drain_) return;
  drain_ = true;
  drain_timeout_ = timeout;
  changed_.NotifyAll();
}

void DaemonEvents::PostStarted(absl::StatusOr<Serving> started) {
  MutexLock lock(mutex_);
  started_ = std::move(started);
  changed_.NotifyAll();
}

void DaemonEvents::PostFault(const absl::Status& fault) {
  MutexLock lock(mutex_);
  fault_ = fault;
  changed_.NotifyAll();
}

void DaemonEvents::PostStopped() {
  MutexLock lock(mutex_);
  stopped_ = true;
  changed_.NotifyAll();
}

void DaemonEvents::WaitForStartOrSignal() {
  MutexLock lock(mutex_);
  while (!started_.has_value() && signals_ == 0 && !drain_) changed_.Wait(mutex_);
}

void DaemonEvents::WaitForSignalOrFault() {
  MutexLock lock(mutex_);
  while (signals_ == 0 && !drain_ && fault_.ok()) changed_.Wait(mutex_);
}

bool DaemonEvents::WaitForHurry(TimePoint deadline) {
  MutexLock lock(mutex_);
  while (signals_ < 2 && fault_.ok()) {
    if (!changed_.WaitUntil(mutex_, deadline)) return false;
  }
  return true;
}

bool DaemonEvents::WaitForStart(TimePoint deadline) {
  MutexLock lock(mutex_);
  while (!started_.has_value()) {
    if (signals_ > 1) return false;
    if (!changed_.WaitUntil(mutex_, deadline)) return started_.has_value();
  }
  return true;
}

bool DaemonEvents::WaitForStopped(std::chrono::milliseconds after_signal,
                                  std::chrono::milliseconds after_fault) {
  MutexLock lock(mutex_);
  TimePoint deadline = TimePoint::max();
  while (!stopped_) {
    const TimePoint now = std::chrono::steady_clock::now();
    if (signals_ > 1) deadline = std::min(deadline, now + after_signal);
    if (!fault_.ok()) deadline = std::min(deadline, now + after_fault);
    if (deadline == TimePoint::max()) {
      changed_.Wait(mutex_);
    } else if (!changed_.WaitUntil(mutex_, deadline)) {
      return stopped_;
    }
  }
  return true;
}

std::optional<std::chrono::milliseconds> DaemonEvents::drain_timeout() const {
  MutexLock lock(mutex_);
  return drain_timeout_;
}

int DaemonEvents::signals() const {
  MutexLock lock(mutex_);
  return signals_;
}

bool DaemonEvents::started() const {
  MutexLock lock(mutex_);
  return started_.has_value();
}

absl::Status DaemonEvents::fault() const {
  MutexLock lock(mutex_);
  return fault_;
}

absl::StatusOr<Serving> DaemonEvents::TakeStarted() {
  MutexLock lock(mutex_);
  MOED_CHECK(started_.has_value(), "the start has not ended");
  return std::exchange(started_, absl::UnknownError("taken")).value();
}

}  // namespace moed
