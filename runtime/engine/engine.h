// The engine: takes requests, runs steps, hands tokens to the output thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/engine/routing_ledger.h"
#include "runtime/engine/step_statistics.h"
#include "runtime/output/generation_sink.h"
#include "runtime/schedule/request.h"
#include "runtime/schedule/scheduler.h"

namespace moed {

// A snapshot for pages and metrics.
struct EngineStats {
  int32_t requests_waiting = 0;  // continuations: one for a request whose prompt is not computed
  int32_t requests_running = 0;  // continuations
  std::vector<int64_t> free_kv_blocks;    // [num_ranks] those that hold cached prefixes included
  std::vector<int64_t> cached_kv_blocks;  // [num_ranks] of the free ones
  std::vector<int64_t> total_kv_blocks;   // [num_ranks]
  SchedulerCounters counters;
  StepStatistics steps;  // from launch to answer
  // How long the engine thread has been in its present turn; 0 while it waits for work. A turn ends
  // with a step at the latest, so more than a rank's timeout means that it hangs.
  std::chrono::steady_clock::duration turn_age{0};
  absl::Status fault;  // OK, or why the ranks are broken for good; for operators, not clients
};

// Thread-safe. Every accepted request ends exactly once, through GenerationSink::OnFinish.
class Engine {
 public:
  virtual ~Engine() = default;

  // RESOURCE_EXHAUSTED when the queue is full, ALREADY_EXISTS for a request id that is live,
  // INVALID_ARGUMENT for a request that can never fit the KV cache (with numbers), is empty or asks
  // for no token, FAILED_PRECONDITION for text or stop strings without a tokenizer, UNAVAILABLE
  // while draining or after a fault. On an error the sink is not called. An id is live from here
  // until just before OnFinish is called. A deadline that has passed ends the request through its
  // sink, without any work on a device.
  //
  // Not checked here, but by the front end's validator (a rank's MOED_CHECK ends the process
  // otherwise): the prompt's token ids and the stop ids lie in the vocabulary, and prompt and
  // max_tokens together within the model's positions.
  virtual absl::Status Submit(GenerationRequest request, std::shared_ptr<GenerationSink> sink) = 0;

  // Ends a request with `reason`; its KV blocks are free within one step. False: none with this id
  // is live. Between the end of a request and OnFinish's return its id may already be another
  // request's, which this would end: a front end uses CancelOwn.
  virtual bool Cancel(absl::string_view request_id, absl::Status reason) = 0;

  // The same for a caller that may come late: only the request that was submitted with `sink` is
  // ended, not another one that has taken the id since. The caller holds the sink, so that no other
  // can have its address. An engine whose ids are never used twice need not tell them apart.
  virtual void CancelOwn(absl::string_view request_id, const GenerationSink* sink,
                         absl::Status reason) {
    static_cast<void>(sink);
    Cancel(request_id, std::move(reason));
  }

  // Refuses new requests from now on. Those accepted run on.
  virtual void BeginDrain() = 0;
  // Ends every request with `reason` and waits until all sinks have been told and the ranks have
  // stopped: for the step that runs, at most about the rank timeout. Not from a sink. Destruction
  // includes it.
  virtual void Shutdown(const absl::Status& reason) = 0;

  virtual EngineStats Stats() const = 0;
  // What the router chose, and what the ranks did. Lives as long as the engine.
  virtual const RoutingLedger& routing() const = 0;
};

}  // namespace moed
