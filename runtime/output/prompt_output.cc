#include "runtime/output/prompt_output.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "kernels/core/check.h"
#include "runtime/tokenizer/incremental_detokenizer.h"

namespace moed {
namespace {

std::vector<TokenLogprob> WithMostLikely(const std::vector<SampledToken>& logprobs, int32_t count) {
  std::vector<TokenLogprob> result;
  if (count < 0) return result;
  result.reserve(logprobs.size());
  for (const SampledToken& token : logprobs) {
    const auto& all = token.top_logprobs;
    const size_t num_top = std::min(all.size(), static_cast<size_t>(count));
    result.push_back({token.token_id, token.logprob, {all.begin(), all.begin() + num_top}});
  }
  return result;
}

// What the continuation's detokeniser carries over from the prompt (bytes of an unfinished code
// point) is not in it.
std::string PromptText(const GenerationRequest& request, const Tokenizer* tokenizer) {
  MOED_CHECK(tokenizer != nullptr, "text is asked for without a tokenizer");
  IncrementalDetokenizer detokenizer(*tokenizer,
                                     DetokenizeOptions{request.response.skip_special_tokens});
  std::string text;
  for (const int32_t id : request.prompt_token_ids) detokenizer.Feed(id, &text);
  return text;
}

}  // namespace

PromptOutput::PromptOutput(const GenerationRequest& request, const Tokenizer* tokenizer)
    : num_tokens_(static_cast<int32_t>(request.prompt_token_ids.size())),
      echoes_(request.response.echo),
      num_gathered_logprobs_(request.response.num_prompt_logprobs),
      num_reported_logprobs_(
          request.response.num_reported_prompt_logprobs.value_or(num_gathered_logprobs_)),
      num_echoed_logprobs_(request.response.num_logprobs) {
  MOED_CHECK(num_reported_logprobs_ <= num_gathered_logprobs_, "too few prompt logprobs to report");
  if (!echoes_) return;
  MOED_CHECK(num_echoed_logprobs_ <= num_gathered_logprobs_, "too few prompt logprobs to echo");
  token_ids_ = request.prompt_token_ids;
  if (request.response.text) text_ = PromptText(request, tokenizer);
}

void PromptOutput::AppendLogprobs(std::vector<SampledToken> logprobs) {
  if (num_gathered_logprobs_ < 0 || logprobs.empty()) return;
  std::move(logprobs.begin(), logprobs.end(), std::back_inserter(logprobs_));
  MOED_CHECK(logprobs_.size() < static_cast<size_t>(num_tokens_),
             "a prompt has more log probabilities than tokens to be predicted");
}

bool PromptOutput::is_complete() const {
  return num_gathered_logprobs_ < 0 || logprobs_.size() + 1 == static_cast<size_t>(num_tokens_);
}

PromptReport PromptOutput::MakeReport(int32_t cached_tokens) const {
  return {num_tokens_, cached_tokens, WithMostLikely(logprobs_, num_reported_logprobs_)};
}

void PromptOutput::Echo(GenerationDelta* delta) const {
  if (!echoes_) return;
  delta->text.insert(0, text_);
  delta->token_ids.insert(delta->token_ids.begin(), token_ids_.begin(), token_ids_.end());
  std::vector<TokenLogprob> logprobs = WithMostLikely(logprobs_, num_echoed_logprobs_);
  std::move(delta->logprobs.begin(), delta->logprobs.end(), std::back_inserter(logprobs));
  delta->logprobs = std::move(logprobs);
}

void PromptOutput::Release() {
  text_ = std::string();
  token_ids_ = {};
  logprobs_ = {};
}

}  // namespace moed
