// StoppingParams: ranges, defaults, and what the engine takes.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "moed/v1/generation.pb.h"
#include "runtime/schedule/request.h"
#include "server/state/request_limits.h"
#include "server/state/served_model.h"

namespace moed {

// Cuts max_tokens to the room that a prompt of so many tokens leaves. Errors as CheckSampling's.
absl::StatusOr<StoppingParams> CheckStopping(const v1::StoppingParams& stopping,
                                             const ServedModel& model, const RequestLimits& limits,
                                             int64_t prompt_tokens);

}  // namespace moed
