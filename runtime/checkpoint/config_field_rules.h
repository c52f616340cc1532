// What to do with the fields of config.json that ModelConfig has no place for.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "runtime/checkpoint/json_fields.h"

namespace moed {

// Fields that would change the maths (biases, quantisation, scalings, shared experts, ...) are
// refused unless they hold the value that changes nothing. Fields known to be without effect are
// passed over. Any other is added to `warnings`: the Mixtral architecture of the Hugging Face
// library reads none of them, so that they cannot change what it computes.
absl::Status CheckOtherFields(const JsonFields& fields, std::vector<std::string>& warnings);

}  // namespace moed
