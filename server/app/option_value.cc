#include "server/app/option_value.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace moed {
namespace {

constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
constexpr char kUnitLetters[] = "bkmgt";

absl::Status Expected(absl::string_view what, absl::string_view found) {
  return absl::InvalidArgumentError(absl::StrCat("must be ", what, ", got ", found));
}

// The power of 1024 that a unit stands for, -1 for what is none: "", "b", "g", "gb", "gib".
int UnitPower(absl::string_view unit) {
  if (unit.empty()) return 0;
  const absl::string_view letters(kUnitLetters);
  const size_t power = letters.find(unit[0]);
  if (power == absl::string_view::npos) return -1;
  const absl::string_view rest = unit.substr(1);
  const bool known = rest.empty() || (power > 0 && (rest == "b" || rest == "ib"));
  return known ? static_cast<int>(power) : -1;
}

}  // namespace

absl::StatusOr<int64_t> ParseInteger(absl::string_view text, int64_t low, int64_t high) {
  int64_t value = 0;
  if (absl::SimpleAtoi(text, &value) && value >= low && value <= high) return value;
  if (high == std::numeric_limits<int64_t>::max()) {
    return Expected(absl::StrCat("a whole number of at least ", low), text);
  }
  return Expected(absl::StrCat("a whole number in [", low, ", ", high, "]"), text);
}

absl::StatusOr<double> ParseNumber(absl::string_view text, double low, double high) {
  double value = 0;
  if (absl::SimpleAtod(text, &value) && value >= low && value <= high) return value;
  return Expected(absl::StrCat("a number in [", NumberText(low), ", ", NumberText(high), "]"),
                  text);
}

absl::StatusOr<int64_t> ParseSize(absl::string_view text, int64_t low, int64_t high) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string unit = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text.substr(digits)));
  const int power = UnitPower(unit);
  int64_t count = 0;
  if (power < 0 || !absl::SimpleAtoi(text.substr(0, digits), &count)) {
    return Expected("a size like 512MiB or 4GiB", text);
  }
  int64_t bytes = 0;
  if (__builtin_mul_overflow(count, int64_t{1} << (10 * power), &bytes) || bytes < low ||
      bytes > high) {
    return Expected(high == std::numeric_limits<int64_t>::max()
                        ? absl::StrCat("at least ", SizeText(low))
                        : absl::StrCat("in [", SizeText(low), ", ", SizeText(high), "]"),
                    text);
  }
  return bytes;
}

absl::StatusOr<bool> ParseBoolean(absl::string_view text) {
  bool value = false;
  if (absl::EqualsIgnoreCase(text, "on")) return true;
  if (absl::EqualsIgnoreCase(text, "off")) return false;
  if (absl::SimpleAtob(text, &value)) return value;
  return Expected("true or false", text);
}

absl::Status CheckAddress(absl::string_view address) {
  const size_t colon = address.rfind(':');
  const absl::string_view host = address.substr(0, colon);
  int port = -1;
  const bool has_port = colon != absl::string_view::npos && colon > 0 &&
                        absl::SimpleAtoi(address.substr(colon + 1), &port) && port >= 0 &&
                        port <= 65535;
  if (!has_port) return Expected("HOST:PORT with a port in [0, 65535]", address);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (!bracketed && host.find_first_of("[]: \t/@") != absl::string_view::npos) {
    return Expected("HOST:PORT, an IPv6 address in brackets", address);
  }
  return absl::OkStatus();
}

std::string TomlString(absl::string_view text) {
  // JSON's escapes are TOML's too, but for DEL, which JSON leaves alone.
  std::string quoted = nlohmann::json(std::string(text))
                           .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  for (size_t at = quoted.find('\x7f'); at != std::string::npos; at = quoted.find('\x7f', at)) {
    quoted.replace(at, 1, "\\u007F");
  }
  return quoted;
}

std::string NumberText(double value) {
  std::array<char, 32> buffer;
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return std::string(buffer.data(), end);
}

std::string SizeText(int64_t bytes) {
  size_t unit = 0;
  while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? absl::StrCat(bytes) : absl::StrCat(bytes, kUnits[unit]);
}

}  // namespace moed
