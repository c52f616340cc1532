// A front end's sink with somebody looking over its shoulder.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "runtime/output/generation_sink.h"
#include "runtime/schedule/request.h"
#include "server/observe/request_observer.h"

namespace moed {

// Passes everything on to `inner` and tells `observer`, which must outlive it, of first tokens, the
// times between tokens and the end. The engine must be given this sink, so that CancelOwn is too.
// Thread: as GenerationSink.
class ObservedSink final : public GenerationSink {
 public:
  // `record` has what is known already: method, request_id, client. `received_at`: of the call.
  ObservedSink(std::shared_ptr<GenerationSink> inner, RequestObserver* observer,
               RequestRecord record, TimePoint received_at,
               std::function<TimePoint()> now = std::chrono::steady_clock::now);

  // Once the engine has taken the request; not after an error of Submit, whose record the caller
  // sends itself.
  void Admitted();

  bool OnDelta(GenerationDelta delta) override;
  void OnFinish(const GenerationFinish& finish) override;

 private:
  const std::shared_ptr<GenerationSink> inner_;
  RequestObserver* const observer_;
  const std::function<TimePoint()> now_;
  const TimePoint received_at_;
  RequestRecord record_;
  bool has_token_ = false;
  bool reader_stopped_ = false;
  std::vector<TimePoint> last_token_at_;  // [choice]
};

}  // namespace moed
