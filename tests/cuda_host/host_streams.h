// Streams and events of the stand-in: queues of work that the threads run which wait for it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "kernels/core/mutex.h"

namespace moed::cuda_host {

// Thread-safe. Handles are what create gave; others abort. The null stream is always there, and no
// other stream waits for it.
class HostStreams {
 public:
  HostStreams();

  void* CreateStream();
  // Runs what is left.
  void DestroyStream(void* handle);
  void* CreateEvent(bool timed);
  void DestroyEvent(void* handle);

  void Enqueue(void* stream, std::function<void()> work);
  void Record(void* event, void* stream);
  // Later work of `stream` waits for what `event` last recorded; for nothing if it never did.
  void Wait(void* stream, void* event);

  void Synchronize(void* stream);
  void SynchronizeEvent(void* event);
  // Whether the event is reached. If not, one more operation before it has run when this returns,
  // so that a caller who polls gets on.
  bool Query(void* event);
  // Negative: not reached, or not timed.
  double ElapsedSeconds(void* start, void* stop);

  int64_t num_streams() const;  // without the null stream
  int64_t num_events() const;
  int64_t num_pending() const;

 private:
  using Clock = std::chrono::steady_clock;

  struct Operation {
    std::function<void()> work;
  };
  struct Stream {
    std::deque<Operation> operations;
    int64_t num_enqueued = 0;
    int64_t num_run = 0;
    bool busy = false;  // a thread runs an operation
  };
  struct Event {
    bool timed = false;
    std::shared_ptr<Stream> stream;  // of the last record
    int64_t position = 0;            // it is the stream's operation of this number, from 1
    Clock::time_point time;
  };

  std::shared_ptr<Stream> FindStream(void* handle) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<Event> FindEvent(void* handle) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Push(Stream& stream, std::function<void()> work) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Returns when the stream has run this many operations.
  void RunUntil(Stream& stream, int64_t num_run);

  mutable Mutex mutex_;
  CondVar ran_;
  std::shared_ptr<Stream> null_stream_;
  std::map<void*, std::shared_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
  std::map<void*, std::shared_ptr<Event>> events_ ABSL_GUARDED_BY(mutex_);
  uintptr_t next_handle_ ABSL_GUARDED_BY(mutex_) = 0x1000;
};

}  // namespace moed::cuda_host
