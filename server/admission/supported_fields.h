// Fields of the contract that do not work are refused by name, never ignored.
#pragma once

#include "absl/status/status.h"
#include "moed/v1/generation.pb.h"

namespace moed {

// FAILED_PRECONDITION, "<field> is not supported by this build", when a field is set that is not on
// the list of those that work: all that there are, so that one that is new in the contract is
// refused until it is put on the list.
absl::Status CheckSupportedFields(const v1::GenerateRequest& request);

}  // namespace moed
