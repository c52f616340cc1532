// Who wants to know of requests: metrics, the access log.
#pragma once

#include <chrono>

#include "server/observe/request_record.h"

namespace moed {

// Thread-safe: called from the front ends' threads and the output thread. Must not block. Of one
// request OnAdmitted comes first, and OnEnd last.
class RequestObserver {
 public:
  virtual ~RequestObserver() = default;

  // The engine took a request.
  virtual void OnAdmitted() {}
  // Submit to the first delta with a token, of a request.
  virtual void OnFirstToken(std::chrono::duration<double> /*since_submit*/) {}
  // Between two deltas with tokens of a continuation, divided by the tokens of the second.
  virtual void OnInterToken(std::chrono::duration<double> /*each*/, int32_t /*tokens*/) {}
  // Generated tokens that are handed out, first ones and later ones; together the
  // completion_tokens of the record.
  virtual void OnTokens(int32_t /*tokens*/) {}
  // Exactly once for each call, refused or served; before the client learns of the end, so that
  // whoever asks after that finds it counted.
  virtual void OnEnd(const RequestRecord& /*record*/) {}
};

}  // namespace moed
