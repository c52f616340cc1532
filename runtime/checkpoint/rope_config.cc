#include "runtime/checkpoint/rope_config.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"

namespace moed {
namespace {

constexpr double kMaxTheta = 1e15;
constexpr double kMaxFactor = 1e6;

bool IsKnownKey(absl::string_view key) {
  return key == "rope_type" || key == "type" || key == "factor" || key == "rope_theta" ||
         key == "partial_rotary_factor";
}

// Position scale of a `rope_scaling` or `rope_parameters` object.
absl::StatusOr<double> ParseScaling(const JsonFields& scaling) {
  for (const auto& [key, value] : scaling.object().items()) {
    if (!IsKnownKey(key) && !value.is_null()) {
      return scaling.Refuse(key, "no such key (this is not supported)");
    }
  }
  MOED_ASSIGN_OR_RETURN(const std::optional<std::string> rope_type, scaling.Text("rope_type"));
  MOED_ASSIGN_OR_RETURN(const std::optional<std::string> old_type, scaling.Text("type"));
  if (rope_type && old_type && *rope_type != *old_type) {
    return scaling.Refuse("type", "the same as rope_type");
  }
  MOED_ASSIGN_OR_RETURN(const std::optional<double> rotary_part,
                        scaling.Number("partial_rotary_factor", 0, 1));
  if (rotary_part.value_or(1) != 1) {
    return scaling.Refuse("partial_rotary_factor", "1 (anything else is not supported)");
  }
  const std::string type = rope_type ? *rope_type : old_type.value_or("default");
  MOED_ASSIGN_OR_RETURN(const std::optional<double> factor,
                        scaling.Number("factor", 1, kMaxFactor));
  if (type == "linear") {
    if (!factor) return scaling.Refuse("factor", "a number, as the type is \"linear\"");
    return 1 / *factor;
  }
  if (type != "default") {
    return scaling.Refuse(rope_type ? "rope_type" : "type",
                          "\"default\" or \"linear\" (no other scaling is supported)");
  }
  if (factor.value_or(1) != 1) return scaling.Refuse("factor", "1, as the type is \"default\"");
  return 1.0;
}

}  // namespace

absl::StatusOr<RopeConfig> ParseRopeConfig(const JsonFields& fields, absl::string_view file) {
  std::optional<double> theta;
  std::optional<double> scale;
  MOED_ASSIGN_OR_RETURN(theta, fields.Number("rope_theta", 1, kMaxTheta));
  for (const absl::string_view name : {"rope_scaling", "rope_parameters"}) {
    const nlohmann::json* object = fields.Find(name);
    if (object == nullptr) continue;
    if (!object->is_object()) return fields.Refuse(name, "null or an object");
    const JsonFields scaling(*object, file, name);
    MOED_ASSIGN_OR_RETURN(const std::optional<double> inner_theta,
                          scaling.Number("rope_theta", 1, kMaxTheta));
    if (theta && inner_theta && *theta != *inner_theta) {
      return scaling.Refuse("rope_theta", absl::StrCat("the ", *theta, " given elsewhere"));
    }
    if (inner_theta) theta = inner_theta;
    MOED_ASSIGN_OR_RETURN(const double inner_scale, ParseScaling(scaling));
    if (scale && *scale != inner_scale) {
      return fields.Refuse(name, "the scaling that rope_scaling states, or null");
    }
    scale = inner_scale;
  }
  if (!theta) return fields.Refuse("rope_theta", absl::StrCat("a number from 1 to ", kMaxTheta));
  return RopeConfig{*theta, scale.value_or(1)};
}

}  // namespace moed
