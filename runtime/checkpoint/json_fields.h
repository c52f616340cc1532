// Typed access to the fields of a JSON object, with errors that name them.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moed {

// A view: object and file name outlive it. Everywhere, null counts as absent, as it does in the
// Hugging Face library. A wrong type or a value out of range is INVALID_ARGUMENT with file, field,
// expected and found; 4096.0 is not an integer and 1 is not a bool.
class JsonFields {
 public:
  // `parent` is the field that holds this object, "" at the top.
  JsonFields(const nlohmann::json& object, absl::string_view file, absl::string_view parent = "")
      : object_(object), file_(file), parent_(parent) {}

  bool Has(absl::string_view field) const { return Find(field) != nullptr; }
  // nullptr when absent or null.
  const nlohmann::json* Find(absl::string_view field) const;

  absl::StatusOr<std::optional<int64_t>> Integer(absl::string_view field, int64_t min,
                                                 int64_t max) const;
  absl::StatusOr<int64_t> RequiredInteger(absl::string_view field, int64_t min, int64_t max) const;
  // A finite number in [min, max]; integers count.
  absl::StatusOr<std::optional<double>> Number(absl::string_view field, double min,
                                               double max) const;
  absl::StatusOr<std::optional<bool>> Flag(absl::string_view field) const;
  absl::StatusOr<std::optional<std::string>> Text(absl::string_view field) const;
  // One integer or an array of up to 64 of them, each in [min, max]; empty when absent.
  absl::StatusOr<std::vector<int32_t>> TokenIds(absl::string_view field, int64_t max) const;

  // The error for `field`; what it holds is "found".
  absl::Status Refuse(absl::string_view field, absl::string_view expected) const;
  // "rope_parameters.factor"
  std::string PathOf(absl::string_view field) const;
  const nlohmann::json& object() const { return object_; }

 private:
  const nlohmann::json& object_;
  const absl::string_view file_;
  const absl::string_view parent_;
};

}  // namespace moed
