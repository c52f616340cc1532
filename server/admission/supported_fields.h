// Fields of the contract that do not work yet are refused by name, never ignored.
#pragma once

#include "absl/status/status.h"
#include "moed/v1/experts.pb.h"
#include "moed/v1/generation.pb.h"

namespace moed {

// FAILED_PRECONDITION, "sampling.typical_p is not supported by this build", when a field is set
// that is not on the list of those that work. A field that is new in the contract is refused
// until it is put on the list.
absl::Status CheckSupportedFields(const v1::GenerateRequest& request);
absl::Status CheckSupportedFields(const v1::GetExpertLoadRequest& request);

}  // namespace moed
