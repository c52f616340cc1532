// SamplingParams: ranges, defaults, and what the engine takes.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "moed/v1/generation.pb.h"
#include "runtime/schedule/request.h"
#include "server/state/request_limits.h"
#include "server/state/served_model.h"

namespace moed {

// INVALID_ARGUMENT names the field, its range and what was sent; FAILED_PRECONDITION a text on a
// model without a tokenizer. `random` gives a seed where the client has none.
absl::StatusOr<SamplingParams> CheckSampling(const v1::SamplingParams& sampling,
                                             const ServedModel& model, const RequestLimits& limits,
                                             const std::function<uint64_t()>& random);

}  // namespace moed
