// A call's deadline, which a client chooses freely, as the engine's.
#pragma once

#include <grpc/support/time.h>

#include <optional>

#include "runtime/schedule/request.h"

namespace moed {

// The point that lies `left` after `now`: `now` where it has passed, none where it is a year away
// or more, or infinite.
std::optional<TimePoint> DeadlineAfter(gpr_timespec left, TimePoint now);

}  // namespace moed
