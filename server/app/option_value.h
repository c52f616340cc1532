// Values of options as text, whether they come from a flag, a variable or a file: read, checked,
// and written as TOML. Errors say what was expected and what was found, the caller names the
// option.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moed {

// Decimal digits with or without a sign, in [low, high].
absl::StatusOr<int64_t> ParseInteger(absl::string_view text, int64_t low, int64_t high);

// In [low, high]; never NaN.
absl::StatusOr<double> ParseNumber(absl::string_view text, double low, double high);

// Bytes: a whole number and a unit of 1024's powers, "4GiB", "4 gb", "4g", or none; in [low, high].
absl::StatusOr<int64_t> ParseSize(absl::string_view text, int64_t low, int64_t high);

// true, yes, on, 1 and their opposites.
absl::StatusOr<bool> ParseBoolean(absl::string_view text);

// "HOST:PORT" with a port in [0, 65535]; an IPv6 host is in brackets.
absl::Status CheckAddress(absl::string_view address);

// "\"a\\\\b\"": a basic string of TOML. Bytes that are no UTF-8 cannot be in one and become U+FFFD.
std::string TomlString(absl::string_view text);

// The shortest text that reads as the same number.
std::string NumberText(double value);

// "4GiB": the largest unit that takes a whole number.
std::string SizeText(int64_t bytes);

}  // namespace moed
