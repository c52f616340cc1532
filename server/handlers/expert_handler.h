// ExpertService without the transport.
#pragma once

#include "absl/status/statusor.h"
#include "moed/v1/experts.pb.h"
#include "server/state/serving_state.h"

namespace moed {

absl::StatusOr<v1::GetExpertLoadResponse> GetExpertLoad(const v1::GetExpertLoadRequest& request,
                                                        const Serving& serving);
absl::StatusOr<v1::GetExpertTokensResponse> GetExpertTokens(
    const v1::GetExpertTokensRequest& request, const Serving& serving);
// What each answer of a watch is the answer to.
v1::GetExpertLoadRequest LoadRequest(const v1::WatchExpertLoadRequest& request);
absl::StatusOr<v1::GetPlacementResponse> GetPlacement(const v1::GetPlacementRequest& request,
                                                      const ServedModel& model);

}  // namespace moed
