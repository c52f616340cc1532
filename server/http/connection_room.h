// How many connections there may be, and which gives way when there are that many.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "kernels/core/mutex.h"

namespace moed {

// A connection that can be asked to end. Thread-safe; returns at once.
class EndableConnection {
 public:
  virtual ~EndableConnection() = default;
  virtual void End() = 0;
};

// Thread-safe. Calls End and what waits for room without its lock held.
class ConnectionRoom {
 public:
  explicit ConnectionRoom(int max_connections) : max_connections_(max_connections) {}

  // Whether there is a place. False: `when_free` is called once when there is one again.
  bool HasPlace(std::function<void()> when_free);
  // Takes one, or one more than there are where several have asked at the same time.
  void Enter();
  void Leave();

  // The connection is between two requests. While no place is free the one that has been so for
  // longest is ended, so that there is one for whoever comes next.
  using IdlePlace = std::list<std::weak_ptr<EndableConnection>>::iterator;
  IdlePlace BeginIdle(std::weak_ptr<EndableConnection> connection);
  void EndIdle(IdlePlace place);

  // Forgets who waits; nobody is called after it has returned, but for calls under way.
  void Close();

 private:
  // The connection that has been idle longest, where somebody needs its place.
  std::shared_ptr<EndableConnection> TakeOldestIfFull() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int max_connections_;
  Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  int num_connections_ ABSL_GUARDED_BY(mutex_) = 0;
  // Oldest first. Those that have been asked to end are null until they have.
  std::list<std::weak_ptr<EndableConnection>> idle_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::function<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moed
