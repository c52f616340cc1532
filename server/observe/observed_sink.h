// A front end's sink with somebody looking over its shoulder.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/output/generation_sink.h"
#include "runtime/schedule/request.h"
#include "server/observe/request_observer.h"

namespace moed {

// Passes everything on to `inner` and tells `observer`, which must outlive it, of first tokens, the
// times between tokens and the end. The engine must be given this sink, so that CancelOwn is too.
// Thread: as GenerationSink, but for Admitted and ClientGone, which any thread may call.
class ObservedSink final : public GenerationSink {
 public:
  // `record` has what is known already: method, request_id, client. `received_at`: of the call. To
  // be made just before Submit: the time to the first token counts from here.
  ObservedSink(std::shared_ptr<GenerationSink> inner, RequestObserver* observer,
               RequestRecord record, TimePoint received_at,
               std::function<TimePoint()> now = std::chrono::steady_clock::now);

  // Once the engine has taken the request; not after an error of Submit, whose record the caller
  // sends itself. May come after the first tokens and even the end, which imply it.
  void Admitted();
  // Before the request is cancelled because the client went away: the engine may then find a sink
  // that takes no more before it learns why, and would call it a slow reader.
  void ClientGone();

  bool OnDelta(GenerationDelta delta) override;
  void OnFinish(const GenerationFinish& finish) override;

 private:
  struct Choice {
    bool has_begun = false;
    int32_t tokens = 0;
    TimePoint last_token_at;
  };

  void Observe(const GenerationDelta& delta);
  // Tokens of the delta that were generated: with echo the prompt's come first in a choice.
  int32_t GeneratedTokens(const GenerationDelta& delta, const Choice& choice) const;
  void Conclude(absl::Status status);

  const std::shared_ptr<GenerationSink> inner_;
  RequestObserver* const observer_;
  const std::function<TimePoint()> now_;
  const TimePoint received_at_;
  const TimePoint submitted_at_;
  RequestRecord record_;
  bool has_token_ = false;
  bool reader_stopped_ = false;
  std::vector<Choice> choices_;  // as far as seen
  std::atomic<bool> admitted_ = false;
  std::atomic<bool> client_gone_ = false;
};

}  // namespace moed
