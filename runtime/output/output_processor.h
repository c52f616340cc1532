// Committed tokens to text, and to the sinks. The one place that ends a stream.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "runtime/output/generation_sink.h"
#include "runtime/output/sequence_output.h"
#include "runtime/schedule/sequence.h"

namespace moed {

// A request that was accepted. It comes before any token of its sequence.
struct OutputOpen {
  SequenceId id = 0;
  std::unique_ptr<SequenceOutput> output;
  std::shared_ptr<GenerationSink> sink;
  int32_t num_prompt_tokens = 0;
  TimePoint submitted_at;
};

enum class ClosingCause : uint8_t {
  kScheduler,   // a token or a SequenceEnd said so: the scheduler is through with it
  kStopString,  // found here: the scheduler must end the sequence
  kReader,      // the sink said false: as kStopString
};

// Owns every open stream and calls the sinks. A stream that has ended is gone: tokens that the
// scheduler still sends for it are dropped, so that each ends exactly once. No thread, no clock of
// its own; one thread at a time.
class OutputProcessor {
 public:
  // Called just before the sink's OnFinish.
  using ClosingCallback = std::function<void(SequenceId, ClosingCause)>;

  explicit OutputProcessor(ClosingCallback on_closing) : on_closing_(std::move(on_closing)) {}

  void Open(OutputOpen open);
  void Token(const SequenceToken& token);
  void End(const SequenceEnd& end);

  int64_t num_open() const { return static_cast<int64_t>(streams_.size()); }

 private:
  struct Stream {
    OutputOpen open;
    bool has_token = false;
    TimePoint scheduled_at;
    TimePoint first_token_at;
  };
  using Streams = absl::flat_hash_map<SequenceId, Stream>;

  // Fills counts and times, tells the callback and then the sink, and forgets the stream.
  void Close(Streams::iterator found, ClosingCause cause, TimePoint now, GenerationFinish finish);

  const ClosingCallback on_closing_;
  Streams streams_;
};

}  // namespace moed
