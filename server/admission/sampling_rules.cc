#include "server/admission/sampling_rules.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "server/admission/bad_words.h"
#include "server/admission/field_rules.h"

namespace moed {
namespace {

constexpr float kMaxTemperature = 100.0F;
constexpr float kMaxPenalty = 2.0F;
constexpr float kMaxRepetitionPenalty = 10.0F;
constexpr float kMaxLogitBias = 100.0F;

absl::Status CheckCutOffs(const SamplingParams& sampling) {
  MOED_RETURN_IF_ERROR(
      CheckRange("sampling.temperature", sampling.temperature, 0.0F, kMaxTemperature));
  MOED_RETURN_IF_ERROR(
      CheckRange("sampling.top_k", sampling.top_k, 0, std::numeric_limits<int32_t>::max()));
  MOED_RETURN_IF_ERROR(CheckRangeAbove("sampling.top_p", sampling.top_p, 0.0F, 1.0F));
  MOED_RETURN_IF_ERROR(CheckRange("sampling.min_p", sampling.min_p, 0.0F, 1.0F));
  return CheckRangeAbove("sampling.typical_p", sampling.typical_p, 0.0F, 1.0F);
}

absl::Status CheckPenalties(const SamplingParams& sampling) {
  MOED_RETURN_IF_ERROR(CheckRange("sampling.presence_penalty", sampling.presence_penalty,
                                  -kMaxPenalty, kMaxPenalty));
  MOED_RETURN_IF_ERROR(CheckRange("sampling.frequency_penalty", sampling.frequency_penalty,
                                  -kMaxPenalty, kMaxPenalty));
  return CheckRangeAbove("sampling.repetition_penalty", sampling.repetition_penalty, 0.0F,
                         kMaxRepetitionPenalty);
}

// By id: a map has no order, and equal requests must be equal inside.
absl::StatusOr<std::vector<TokenBias>> LogitBias(const v1::SamplingParams& sampling,
                                                 int64_t vocab_size, int32_t limit) {
  constexpr absl::string_view kField = "sampling.logit_bias";
  MOED_RETURN_IF_ERROR(
      CheckCount(kField, static_cast<int64_t>(sampling.logit_bias().size()), limit));
  std::vector<TokenBias> result;
  for (const auto& [id, bias] : sampling.logit_bias()) {
    if (static_cast<int64_t>(id) >= vocab_size) {
      return FieldError(
          kField, absl::StrCat("has the token id ", id, ", ids must be in [0, ", vocab_size, ")"));
    }
    MOED_RETURN_IF_ERROR(
        CheckRange(absl::StrCat(kField, "[", id, "]"), bias, -kMaxLogitBias, kMaxLogitBias));
    result.push_back({static_cast<int32_t>(id), bias});
  }
  std::sort(result.begin(), result.end(),
            [](const TokenBias& a, const TokenBias& b) { return a.token_id < b.token_id; });
  return result;
}

absl::StatusOr<std::vector<int32_t>> AllowedTokenIds(const v1::SamplingParams& sampling,
                                                     int64_t vocab_size) {
  constexpr absl::string_view kField = "sampling.allowed_token_ids";
  MOED_RETURN_IF_ERROR(CheckCount(kField, sampling.allowed_token_ids_size(), vocab_size));
  MOED_ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                        CheckTokenIds(kField, sampling.allowed_token_ids(), vocab_size));
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

absl::StatusOr<std::vector<std::vector<int32_t>>> BadWords(const v1::SamplingParams& sampling,
                                                           const Tokenizer* tokenizer,
                                                           const RequestLimits& limits) {
  constexpr absl::string_view kField = "sampling.bad_words";
  MOED_RETURN_IF_ERROR(CheckCount(kField, sampling.bad_words_size(), limits.bad_words));
  std::vector<std::vector<int32_t>> result;
  for (int index = 0; index < sampling.bad_words_size(); ++index) {
    const std::string& text = sampling.bad_words(index);
    MOED_RETURN_IF_ERROR(CheckTextBytes(kField, index, text, limits.bad_word_bytes));
    if (tokenizer == nullptr) return NoTokenizerError(kField);
    std::vector<std::vector<int32_t>> words = EncodeBadWord(text, *tokenizer);
    if (words.empty()) {
      return FieldError(absl::StrCat(kField, "[", index, "]"), "must have more than spaces");
    }
    std::move(words.begin(), words.end(), std::back_inserter(result));
  }
  return result;
}

}  // namespace

absl::StatusOr<SamplingParams> CheckSampling(const v1::SamplingParams& sampling,
                                             const ServedModel& model, const RequestLimits& limits,
                                             const std::function<uint64_t()>& random) {
  SamplingParams result;
  result.temperature =
      sampling.has_temperature() ? sampling.temperature() : model.default_temperature();
  result.top_k = sampling.has_top_k() ? sampling.top_k() : model.default_top_k();
  result.top_p = sampling.has_top_p() ? sampling.top_p() : model.default_top_p();
  result.min_p = sampling.has_min_p() ? sampling.min_p() : model.default_min_p();
  if (sampling.has_typical_p()) result.typical_p = sampling.typical_p();
  MOED_RETURN_IF_ERROR(CheckCutOffs(result));
  result.presence_penalty = sampling.presence_penalty();
  result.frequency_penalty = sampling.frequency_penalty();
  if (sampling.has_repetition_penalty()) result.repetition_penalty = sampling.repetition_penalty();
  MOED_RETURN_IF_ERROR(CheckPenalties(result));
  if (sampling.has_n()) {
    MOED_RETURN_IF_ERROR(CheckRange("sampling.n", sampling.n(), 1, limits.n));
    result.n = sampling.n();
  }
  const int64_t vocab_size = model.config.vocab_size;
  MOED_ASSIGN_OR_RETURN(result.logit_bias, LogitBias(sampling, vocab_size, limits.logit_bias));
  MOED_ASSIGN_OR_RETURN(result.allowed_token_ids, AllowedTokenIds(sampling, vocab_size));
  MOED_ASSIGN_OR_RETURN(result.bad_words, BadWords(sampling, model.tokenizer.get(), limits));
  result.seed = sampling.has_seed() ? sampling.seed() : random();
  return result;
}

}  // namespace moed
