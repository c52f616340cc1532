// Between the output thread and a front end's writer: a bounded box of what is not yet written.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "kernels/core/mutex.h"
#include "runtime/output/generation_sink.h"

namespace moed {

// What the writer takes out: all deltas since the last Pop in one, and the finish after the last.
struct OutboxMessage {
  GenerationDelta delta;
  std::optional<GenerationFinish> finish;
};

// The sink of one request. Deltas that wait are joined, so a slow reader gets fewer and larger
// messages; one for whom more than `max_bytes` wait is cut off: what waits is dropped, OnDelta says
// false, and the finish alone remains. Thread-safe; nothing blocks.
//
// Wakes: `on_ready` is called once each time the writer has found the box empty (at first it has)
// and something arrives. Between Pops that return a message it is not called. It runs on the output
// thread without a lock held, may call Pop, and is not called again once the finish has arrived and
// that call has returned.
class Outbox : public GenerationSink {
 public:
  // max_bytes >= 1 counts text, ids and logprobs (DeltaBytes). An empty box takes any delta.
  Outbox(size_t max_bytes, std::function<void()> on_ready);

  bool OnDelta(GenerationDelta delta) override;
  void OnFinish(const GenerationFinish& finish) override;

  // All that waits, or nullopt where nothing does: on_ready will then tell. After the message with
  // the finish there is nothing more.
  std::optional<OutboxMessage> Pop();

  // The reader has gone: what waits is dropped and OnDelta says false. The finish still arrives.
  void Close();

  bool overflowed() const;
  size_t pending_bytes() const;

 private:
  // Whether the writer must be told of what has just arrived.
  bool TakeWake() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Drop() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t max_bytes_;
  const std::function<void()> on_ready_;
  mutable Mutex mutex_;
  GenerationDelta pending_ ABSL_GUARDED_BY(mutex_);
  size_t pending_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool has_delta_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<GenerationFinish> finish_ ABSL_GUARDED_BY(mutex_);
  bool finish_taken_ ABSL_GUARDED_BY(mutex_) = false;
  bool reader_waits_ ABSL_GUARDED_BY(mutex_) = true;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool overflowed_ ABSL_GUARDED_BY(mutex_) = false;
};

// Memory that a delta stands for, in bytes.
size_t DeltaBytes(const GenerationDelta& delta);

}  // namespace moed
