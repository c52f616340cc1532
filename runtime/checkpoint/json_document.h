// JSON from outside, parsed within bounds.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moed {

struct JsonLimits {
  int64_t max_bytes = int64_t{1} << 20;
  int max_depth = 32;                     // of objects and arrays within each other
  int64_t max_values = int64_t{1} << 18;  // bounds the memory of the parsed document
};

// Parses one JSON object (RFC 8259). Refused, naming `file` and the byte: bad syntax, bad UTF-8,
// NaN and infinities, numbers outside double, a key that appears twice in an object, anything that
// is not an object at the top, and whatever exceeds `limits`. INVALID_ARGUMENT; throws nothing.
absl::StatusOr<nlohmann::json> ParseJsonObject(absl::string_view text, absl::string_view file,
                                               const JsonLimits& limits);

// `value` as compact JSON, printable ASCII, cut after 80 characters: for error messages.
std::string DescribeJson(const nlohmann::json& value);

}  // namespace moed
