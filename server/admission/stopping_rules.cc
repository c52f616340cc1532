#include "server/admission/stopping_rules.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "server/admission/field_rules.h"

namespace moed {
namespace {

absl::Status SetLengths(const v1::StoppingParams& stopping, const ServedModel& model,
                        const RequestLimits& limits, int64_t prompt_tokens,
                        StoppingParams* result) {
  constexpr int32_t kMaxInt = std::numeric_limits<int32_t>::max();
  result->max_tokens = stopping.has_max_tokens() ? stopping.max_tokens() : kMaxInt;
  result->min_tokens = stopping.min_tokens();
  MOED_RETURN_IF_ERROR(CheckRange("stopping.max_tokens", result->max_tokens, 1, kMaxInt));
  if (result->min_tokens < 0 || result->min_tokens > result->max_tokens) {
    return FieldError("stopping.min_tokens",
                      absl::StrCat("must be in [0, max_tokens], got ", result->min_tokens));
  }
  if (!stopping.has_max_tokens()) {
    result->max_tokens = std::max(limits.default_max_tokens, result->min_tokens);
  }
  // The last token of a continuation is not read again, so it needs no place in the context.
  const int32_t room = static_cast<int32_t>(model.context_tokens - prompt_tokens + 1);
  result->max_tokens = std::min(result->max_tokens, room);
  result->min_tokens = std::min(result->min_tokens, result->max_tokens);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<StoppingParams> CheckStopping(const v1::StoppingParams& stopping,
                                             const ServedModel& model, const RequestLimits& limits,
                                             int64_t prompt_tokens) {
  StoppingParams result;
  MOED_RETURN_IF_ERROR(SetLengths(stopping, model, limits, prompt_tokens, &result));
  constexpr absl::string_view kStrings = "stopping.stop_strings";
  MOED_RETURN_IF_ERROR(CheckCount(kStrings, stopping.stop_strings_size(), limits.stop_strings));
  for (int index = 0; index < stopping.stop_strings_size(); ++index) {
    const std::string& stop = stopping.stop_strings(index);
    MOED_RETURN_IF_ERROR(CheckTextBytes(kStrings, index, stop, limits.stop_string_bytes));
    result.stop_strings.push_back(stop);
  }
  if (!result.stop_strings.empty() && model.tokenizer == nullptr) {
    return NoTokenizerError(kStrings);
  }
  constexpr absl::string_view kTokens = "stopping.stop_token_ids";
  MOED_RETURN_IF_ERROR(CheckCount(kTokens, stopping.stop_token_ids_size(), limits.stop_token_ids));
  MOED_ASSIGN_OR_RETURN(result.stop_token_ids,
                        CheckTokenIds(kTokens, stopping.stop_token_ids(), model.config.vocab_size));
  if (!stopping.ignore_eos()) result.eos_token_ids = model.eos_token_ids();
  result.include_stop = stopping.include_stop();
  if (stopping.has_time_limit_ms()) {
    MOED_RETURN_IF_ERROR(CheckRange<int64_t>("stopping.time_limit_ms", stopping.time_limit_ms(), 1,
                                             limits.time_limit_ms));
    result.time_limit = std::chrono::milliseconds(stopping.time_limit_ms());
  }
  return result;
}

}  // namespace moed
