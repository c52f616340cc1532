// A line of the log for each request that has ended. Nothing of its text.
#pragma once

#include "server/app/logging.h"
#include "server/observe/request_observer.h"

namespace moed {

// Thread-safe; the fields are listed in docs/operations.md. Logged as info, so that a log level
// above leaves them out.
class AccessLog final : public RequestObserver {
 public:
  // `log` must outlive this object.
  explicit AccessLog(Log* log) : log_(log) {}

  void OnEnd(const RequestRecord& record) override;

 private:
  Log* const log_;
};

}  // namespace moed
