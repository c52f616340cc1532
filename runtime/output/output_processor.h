// Committed tokens to text, and to the sinks. The one place that ends a stream.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "runtime/output/generation_sink.h"
#include "runtime/output/request_output.h"
#include "runtime/schedule/sequence_events.h"

namespace moed {

// A request that was accepted. It comes before anything else of its sequences.
struct OutputOpen {
  SequenceId id = 0;
  std::unique_ptr<RequestOutput> output;
  std::shared_ptr<GenerationSink> sink;
  TimePoint submitted_at;
};

enum class ClosingCause : uint8_t {
  kStopString,  // one continuation has ended here, the request goes on: Scheduler::EndChoice
  kScheduler,   // the request is closed, and the scheduler is through with it
  kReader,      // the request is closed, as the sink said false: Scheduler::End
};

struct Closing {
  SequenceId id = 0;
  ClosingCause cause = ClosingCause::kScheduler;
  int32_t choice = -1;  // kStopString: the continuation; else -1
};

// Owns every open stream and calls the sinks. What has ended is gone: reports and tokens that the
// scheduler still sends for a continuation or a request are dropped, so that each ends exactly
// once. A continuation ends by the finish of a token, by a stop string or by a timeout; a request
// with its last continuation, by a SequenceEnd, or by a sink that says false. No thread, no clock
// of its own; one thread at a time.
class OutputProcessor {
 public:
  // With kStopString called just after the sink has had the continuation's last delta, unless the
  // token that completed the stop string was the scheduler's last anyway; where that was the last
  // continuation, kScheduler follows. With the others called once per request, just before the
  // sink's OnFinish.
  using ClosingCallback = std::function<void(const Closing&)>;

  explicit OutputProcessor(ClosingCallback on_closing) : on_closing_(std::move(on_closing)) {}

  void Open(OutputOpen open);
  void Report(SequenceReport report);
  void Token(const SequenceToken& token);
  void Timeout(const SequenceTimeout& timeout);
  void End(const SequenceEnd& end);

  int64_t num_open() const { return static_cast<int64_t>(streams_.size()); }

 private:
  struct Choice {
    bool has_ended = false;
    std::optional<TimePoint> first_token_at;
  };
  struct Stream {
    OutputOpen open;
    std::vector<Choice> choices;  // [n]
    int32_t num_live = 0;         // of them
  };
  using Streams = absl::flat_hash_map<SequenceId, Stream>;

  // When and how far a continuation came.
  struct Ending {
    int32_t choice = 0;
    std::optional<TimePoint> scheduled_at;
    TimePoint at;
  };

  // The stream of a continuation that has not ended, or end().
  Streams::iterator FindLive(SequenceId id, int32_t choice);
  // `finish` is how it ended, unless a stop string matched.
  static ChoiceFinish MakeFinish(const Stream& stream, const Ending& ending,
                                 const SequenceFinish& finish, const SequenceUsage& usage);
  // Hands a delta out, and ends what ends with it.
  void Deliver(Streams::iterator found, GenerationDelta delta, bool scheduler_knows);
  // Tells the callback and then the sink, and forgets the stream.
  void Close(Streams::iterator found, ClosingCause cause, const absl::Status& status);

  const ClosingCallback on_closing_;
  Streams streams_;
};

}  // namespace moed
