// Between the output thread and a front end's writer: a bounded box of what is not yet written.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "kernels/core/mutex.h"
#include "runtime/output/generation_sink.h"

namespace moed {

// What the writer takes out. At least one of the two is set.
struct OutboxMessage {
  std::optional<GenerationDelta> delta;  // what waited of one continuation, in one
  std::optional<GenerationFinish> end;   // with the last message; not OK: alone
};

// The sink of one request. Deltas of a continuation that wait are joined, those of different ones
// never, so a slow reader gets fewer and larger messages; up to kMaxJoinedBytes, as clients take
// messages up to a limit. What has waited longest is taken out first. Thread-safe; nothing blocks.
//
// A reader for whom more than `max_bytes` wait is cut off: what waits is dropped, OnDelta says
// false, and the end alone remains. An empty box takes any delta, and the first delta of each
// continuation does not count: with echo it holds the prompt, and n of them come at once, which the
// request's own limits bound.
//
// Wakes: `on_ready` is called once each time the writer has found the box empty (at first it has)
// and something arrives. Between Pops that return a message it is not called. It runs on the output
// thread without a lock held, may call Pop, and is not called again once the end has arrived and
// that call has returned.
class Outbox : public GenerationSink {
 public:
  // Of a message that was joined, as DeltaBytes. gRPC's clients take 4 MiB unless told otherwise.
  static constexpr size_t kMaxJoinedBytes = size_t{256} << 10;

  // max_bytes >= 1, of DeltaBytes.
  Outbox(size_t max_bytes, std::function<void()> on_ready);

  bool OnDelta(GenerationDelta delta) override;
  // What waits is dropped unless the status is OK.
  void OnFinish(const GenerationFinish& finish) override;

  // What waits of one continuation, or nullopt where nothing does: on_ready will then tell. After
  // the message with the end there is nothing more.
  std::optional<OutboxMessage> Pop();

  // The reader has gone: what waits is dropped and OnDelta says false. The end still arrives.
  void Close();

  bool overflowed() const;
  size_t pending_bytes() const;

 private:
  struct Waiting {
    GenerationDelta delta;
    size_t bytes = 0;
    size_t counted_bytes = 0;  // those that count against max_bytes_
  };

  // Whether the writer must be told of what has just arrived.
  bool TakeWake() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether this is a continuation's first delta.
  bool TakeFirst(int32_t choice) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Add(GenerationDelta delta, size_t bytes, size_t counted_bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Drop() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t max_bytes_;
  const std::function<void()> on_ready_;
  mutable Mutex mutex_;
  // Oldest first. Mostly of one element, for which a vector keeps its memory.
  std::vector<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
  std::vector<bool> has_begun_ ABSL_GUARDED_BY(mutex_);  // by continuation, as far as known
  size_t pending_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t counted_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<GenerationFinish> end_ ABSL_GUARDED_BY(mutex_);
  bool end_taken_ ABSL_GUARDED_BY(mutex_) = false;
  bool reader_waits_ ABSL_GUARDED_BY(mutex_) = true;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool overflowed_ ABSL_GUARDED_BY(mutex_) = false;
};

// Memory that a delta stands for, in bytes: text, ids, log probabilities (the prompt's too) and
// experts.
size_t DeltaBytes(const GenerationDelta& delta);

}  // namespace moed
