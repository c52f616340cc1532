// What the engine is given for a call.
#pragma once

#include <atomic>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "runtime/output/generation_sink.h"
#include "server/observe/observed_sink.h"
#include "server/rpc/generation_call.h"

namespace moed {

// Hands the output on to the call's own sink, past the observer, and makes of the engine's last
// word what the client is told. Thread: as GenerationSink, but for what says otherwise.
class CallSink final : public GenerationSink {
 public:
  // Just before Submit.
  CallSink(const GenerationCall& call, const CallGate& gate, std::shared_ptr<GenerationSink> inner);

  // Hands the request to `engine` with `sink`. An error is recorded, and says where it can why and
  // when to come back. At most once.
  static absl::Status Submit(GenerationRequest request, Engine* engine,
                             const std::shared_ptr<CallSink>& sink);

  // Why the request is about to be cancelled. Any thread.
  void ClientGone();
  void ReaderStuck() { reader_stuck_ = true; }

  // What the client of a stream is told where the engine's last word is `status` but part of the
  // output may have been dropped since. Any thread.
  absl::Status WireStatus(const absl::Status& status) const;

  bool OnDelta(GenerationDelta delta) override;
  void OnFinish(const GenerationFinish& finish) override;

 private:
  absl::Status EndStatus(const absl::Status& status) const;
  absl::Status Refused(absl::Status status);

  const CallGate gate_;
  const TimePoint received_at_;
  const std::optional<TimePoint> deadline_;
  RequestRecord record_;
  ObservedSink observed_;
  bool reader_stopped_ = false;
  std::atomic<bool> client_gone_{false};
  std::atomic<bool> reader_stuck_{false};
};

}  // namespace moed
