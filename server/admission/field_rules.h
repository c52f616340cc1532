// Checks of single fields, with errors that name the field, the range and what was sent: in their
// text and, for programs, in a BadRequest.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/errors/error_details.h"

namespace moed {

// INVALID_ARGUMENT, "<field> must be in [low, high], got <value>".
template <typename T>
absl::Status CheckRange(absl::string_view field, T value, T low, T high) {
  // Written so that a NaN fails.
  if (value >= low && value <= high) return absl::OkStatus();
  return FieldError(field, absl::StrCat("must be in [", low, ", ", high, "], got ", value));
}

// INVALID_ARGUMENT, "<field> must be in (low, high], got <value>".
template <typename T>
absl::Status CheckRangeAbove(absl::string_view field, T value, T low, T high) {
  if (value > low && value <= high) return absl::OkStatus();
  return FieldError(field, absl::StrCat("must be in (", low, ", ", high, "], got ", value));
}

// INVALID_ARGUMENT, "<field>[<index>] must have 1 to <limit> bytes, got <bytes>".
inline absl::Status CheckTextBytes(absl::string_view field, int index, absl::string_view text,
                                   int32_t limit) {
  if (!text.empty() && text.size() <= static_cast<size_t>(limit)) return absl::OkStatus();
  return FieldError(absl::StrCat(field, "[", index, "]"),
                    absl::StrCat("must have 1 to ", limit, " bytes, got ", text.size()));
}

// `status` for a field that asks for what this build, model or server does not have: FEATURE_OFF,
// with the field.
inline absl::Status FeatureOff(absl::Status status, absl::string_view field) {
  return WithReason(std::move(status), kReasonFeatureOff, {{"field", field}});
}

// What a field that needs a tokenizer is told on a model without one.
inline absl::Status NoTokenizerError(absl::string_view field) {
  return FeatureOff(
      absl::FailedPreconditionError(absl::StrCat(
          field, " needs a tokenizer, and this model has none: it takes and gives token ids")),
      field);
}

// INVALID_ARGUMENT, "<field> has <count> entries, at most <limit> are allowed".
inline absl::Status CheckCount(absl::string_view field, int64_t count, int64_t limit) {
  if (count <= limit) return absl::OkStatus();
  return FieldError(field,
                    absl::StrCat("has ", count, " entries, at most ", limit, " are allowed"));
}

// The ids as the engine takes them; INVALID_ARGUMENT with the index of the first one that is not
// in [0, vocab_size).
template <typename Ids>
absl::StatusOr<std::vector<int32_t>> CheckTokenIds(absl::string_view field, const Ids& ids,
                                                   int64_t vocab_size) {
  std::vector<int32_t> result;
  result.reserve(static_cast<size_t>(ids.size()));
  for (int index = 0; index < ids.size(); ++index) {
    if (static_cast<int64_t>(ids[index]) >= vocab_size) {
      return FieldError(absl::StrCat(field, "[", index, "]"),
                        absl::StrCat("must be in [0, ", vocab_size, "), got ", ids[index]));
    }
    result.push_back(static_cast<int32_t>(ids[index]));
  }
  return result;
}

}  // namespace moed
