// Who wants to know of requests: metrics, the access log.
#pragma once

#include <chrono>

#include "server/observe/request_record.h"

namespace moed {

// Thread-safe: called from the front ends' threads and the output thread. Must not block.
class RequestObserver {
 public:
  virtual ~RequestObserver() = default;

  // The engine took a request.
  virtual void OnAdmitted() {}
  // Submit to the first delta with a token, of a request.
  virtual void OnFirstToken(std::chrono::duration<double> /*since_submit*/) {}
  // Between two deltas with tokens of a continuation, divided by the tokens of the second.
  virtual void OnInterToken(std::chrono::duration<double> /*each*/, int32_t /*tokens*/) {}
  // Exactly once for each call, refused or served.
  virtual void OnEnd(const RequestRecord& /*record*/) {}
};

}  // namespace moed
