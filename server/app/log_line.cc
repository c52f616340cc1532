#include "server/app/log_line.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <variant>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace moed {
namespace {

std::string JsonString(absl::string_view text) {
  // Bad UTF-8 in a path must not end the daemon.
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Microseconds are enough for what is measured here.
std::string Number(double value) {
  if (!std::isfinite(value)) return "0";
  std::string text = absl::StrFormat("%.6f", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

// Control characters, also DEL, would break lines or speak to the terminal.
std::string WithoutControls(absl::string_view text) {
  std::string result;
  for (const char c : text) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) {
      absl::StrAppend(&result, absl::CHexEscape(absl::string_view(&c, 1)));
    } else {
      result.push_back(c);
    }
  }
  return result;
}

std::string TextValue(absl::string_view text) {
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || (c != 0 && std::strchr("._:/@+-[]", c) != nullptr);
  });
  return plain ? std::string(text) : absl::StrCat("\"", absl::CHexEscape(text), "\"");
}

template <typename OnText>
std::string Show(const LogField::Value& value, OnText on_text) {
  if (const auto* text = std::get_if<absl::string_view>(&value)) return on_text(*text);
  if (const auto* whole = std::get_if<int64_t>(&value)) return absl::StrCat(*whole);
  if (const auto* number = std::get_if<double>(&value)) return Number(*number);
  return std::get<bool>(value) ? "true" : "false";
}

}  // namespace

std::string TextLine(absl::string_view message, absl::Span<const LogField> fields) {
  std::string line = WithoutControls(message);
  for (const LogField& field : fields) {
    absl::StrAppend(&line, " ", field.key(), "=", Show(field.value(), TextValue));
  }
  return line;
}

std::string JsonMembers(absl::string_view message, absl::Span<const LogField> fields) {
  std::string members = absl::StrCat("\"message\":", JsonString(message));
  for (const LogField& field : fields) {
    absl::StrAppend(&members, ",", JsonString(field.key()), ":", Show(field.value(), JsonString));
  }
  return members;
}

}  // namespace moed
