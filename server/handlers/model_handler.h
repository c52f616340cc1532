// ModelService without the transport.
#pragma once

#include "absl/status/statusor.h"
#include "moed/v1/model.pb.h"
#include "server/state/request_limits.h"
#include "server/state/serving_state.h"

namespace moed {

absl::StatusOr<v1::GetModelResponse> GetModel(const v1::GetModelRequest& request,
                                              const Serving& serving, const RequestLimits& limits);
v1::ListModelsResponse ListModels(const ServedModel& model, const RequestLimits& limits);

}  // namespace moed
