// AdminService without the transport.
#pragma once

#include <chrono>

#include "absl/status/statusor.h"
#include "moed/v1/admin.pb.h"
#include "server/state/admin_control.h"
#include "server/state/lifecycle.h"
#include "server/state/serving_state.h"

namespace moed {

// `serving` is null while there is nothing to serve with: before the weights are loaded, and at the
// very end.
v1::ListRanksResponse ListRanks(const LifecycleSnapshot& lifecycle, const Serving* serving);

// NOT_FOUND where no such request is live, INVALID_ARGUMENT for an empty id.
absl::StatusOr<v1::AbortRequestResponse> AbortRequest(const v1::AbortRequestRequest& request,
                                                      const Serving* serving);

// INVALID_ARGUMENT for a time out of range; the daemon then does not drain.
absl::StatusOr<v1::DrainResponse> Drain(const v1::DrainRequest& request, const Serving* serving,
                                        AdminControl& control);

absl::StatusOr<v1::SetLogLevelResponse> SetLogLevel(const v1::SetLogLevelRequest& request,
                                                    AdminControl& control);

}  // namespace moed
