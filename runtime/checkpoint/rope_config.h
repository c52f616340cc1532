// The rotary embedding's fields of config.json, in the older and the newer spelling.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/checkpoint/json_fields.h"

namespace moed {

struct RopeConfig {
  double theta = 0;
  double position_scale = 1;  // 1 / factor under linear scaling
};

// Reads `rope_theta` with `rope_scaling` (older) or the dict `rope_parameters` (newer). Types
// "default" and "linear" (with `factor` >= 1) are honoured; "dynamic", "yarn", "longrope",
// "llama3" and every key that this version does not know are refused by name, as are spellings
// that contradict each other.
absl::StatusOr<RopeConfig> ParseRopeConfig(const JsonFields& fields, absl::string_view file);

}  // namespace moed
