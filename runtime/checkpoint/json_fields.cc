#include "runtime/checkpoint/json_fields.h"

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "runtime/checkpoint/error_text.h"
#include "runtime/checkpoint/json_document.h"

namespace moed {
namespace {

constexpr size_t kMaxTokenIds = 64;

std::optional<int64_t> AsInteger(const nlohmann::json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  return std::nullopt;
}

}  // namespace

const nlohmann::json* JsonFields::Find(absl::string_view field) const {
  const auto place = object_.find(std::string(field));
  return place == object_.end() || place->is_null() ? nullptr : &*place;
}

std::string JsonFields::PathOf(absl::string_view field) const {
  return parent_.empty() ? std::string(field) : absl::StrCat(parent_, ".", field);
}

absl::Status JsonFields::Refuse(absl::string_view field, absl::string_view expected) const {
  const nlohmann::json* value = Find(field);
  return FieldError(file_, PathOf(field), expected,
                    value == nullptr ? "nothing" : DescribeJson(*value));
}

absl::StatusOr<std::optional<int64_t>> JsonFields::Integer(absl::string_view field, int64_t min,
                                                           int64_t max) const {
  const nlohmann::json* value = Find(field);
  if (value == nullptr) return std::optional<int64_t>();
  const std::optional<int64_t> number = AsInteger(*value);
  if (!number || *number < min || *number > max) {
    return Refuse(field, absl::StrCat("an integer from ", min, " to ", max));
  }
  return number;
}

absl::StatusOr<int64_t> JsonFields::RequiredInteger(absl::string_view field, int64_t min,
                                                    int64_t max) const {
  MOED_ASSIGN_OR_RETURN(const std::optional<int64_t> number, Integer(field, min, max));
  if (!number) return Refuse(field, absl::StrCat("an integer from ", min, " to ", max));
  return *number;
}

absl::StatusOr<std::optional<double>> JsonFields::Number(absl::string_view field, double min,
                                                         double max) const {
  const nlohmann::json* value = Find(field);
  if (value == nullptr) return std::optional<double>();
  const double number =
      value->is_number() ? value->get<double>() : std::numeric_limits<double>::quiet_NaN();
  if (!(number >= min && number <= max)) {
    return Refuse(field, absl::StrCat("a number from ", min, " to ", max));
  }
  return std::optional<double>(number);
}

absl::StatusOr<std::optional<bool>> JsonFields::Flag(absl::string_view field) const {
  const nlohmann::json* value = Find(field);
  if (value == nullptr) return std::optional<bool>();
  if (!value->is_boolean()) return Refuse(field, "true or false");
  return std::optional<bool>(value->get<bool>());
}

absl::StatusOr<std::optional<std::string>> JsonFields::Text(absl::string_view field) const {
  const nlohmann::json* value = Find(field);
  if (value == nullptr) return std::optional<std::string>();
  if (!value->is_string()) return Refuse(field, "a string");
  return std::optional<std::string>(value->get<std::string>());
}

absl::StatusOr<std::vector<int32_t>> JsonFields::TokenIds(absl::string_view field,
                                                          int64_t max) const {
  std::vector<int32_t> ids;
  const nlohmann::json* value = Find(field);
  if (value == nullptr) return ids;
  const std::string expected =
      absl::StrCat("a token id from 0 to ", max, " or an array of at most ", kMaxTokenIds);
  const auto add = [&](const nlohmann::json& element) {
    const std::optional<int64_t> id = AsInteger(element);
    if (!id || *id < 0 || *id > max) return false;
    ids.push_back(static_cast<int32_t>(*id));
    return true;
  };
  if (!value->is_array()) {
    if (!add(*value)) return Refuse(field, expected);
    return ids;
  }
  if (value->size() > kMaxTokenIds) return Refuse(field, expected);
  for (const nlohmann::json& element : *value) {
    if (!add(element)) return Refuse(field, expected);
  }
  return ids;
}

}  // namespace moed
