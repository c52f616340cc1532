#include "client/generate_request.h"

namespace moed {
namespace {

void SetSampling(const GenerateOptions& o, v1::SamplingParams* sampling) {
  if (o.temperature.has_value()) sampling->set_temperature(*o.temperature);
  if (o.top_k.has_value()) sampling->set_top_k(*o.top_k);
  if (o.top_p.has_value()) sampling->set_top_p(*o.top_p);
  if (o.min_p.has_value()) sampling->set_min_p(*o.min_p);
  if (o.typical_p.has_value()) sampling->set_typical_p(*o.typical_p);
  if (o.seed.has_value()) sampling->set_seed(*o.seed);
  if (o.n.has_value()) sampling->set_n(*o.n);
  if (o.presence_penalty.has_value()) sampling->set_presence_penalty(*o.presence_penalty);
  if (o.frequency_penalty.has_value()) sampling->set_frequency_penalty(*o.frequency_penalty);
  if (o.repetition_penalty.has_value()) sampling->set_repetition_penalty(*o.repetition_penalty);
  for (const std::string& text : o.logit_bias) {
    const LogitBiasOption entry = ParseLogitBias(text).value_or(LogitBiasOption());
    (*sampling->mutable_logit_bias())[entry.token_id] = entry.bias;
  }
  sampling->mutable_allowed_token_ids()->Assign(o.allowed_token_ids.begin(),
                                                o.allowed_token_ids.end());
  sampling->mutable_bad_words()->Assign(o.bad_words.begin(), o.bad_words.end());
}

void SetStopping(const GenerateOptions& o, v1::StoppingParams* stopping) {
  if (o.max_tokens.has_value()) stopping->set_max_tokens(*o.max_tokens);
  if (o.min_tokens.has_value()) stopping->set_min_tokens(*o.min_tokens);
  stopping->mutable_stop_strings()->Assign(o.stop_strings.begin(), o.stop_strings.end());
  stopping->mutable_stop_token_ids()->Assign(o.stop_token_ids.begin(), o.stop_token_ids.end());
  if (o.include_stop) stopping->set_include_stop(true);
  stopping->set_ignore_eos(o.ignore_eos);
  if (o.time_limit_ms.has_value()) stopping->set_time_limit_ms(*o.time_limit_ms);
}

void SetResponse(const GenerateOptions& o, v1::ResponseOptions* response) {
  if (o.no_text) response->set_text(false);
  if (o.show_token_ids) response->set_token_ids(true);
  if (o.logprobs.has_value()) response->set_logprobs(*o.logprobs);
  if (o.prompt_logprobs.has_value()) response->set_prompt_logprobs(*o.prompt_logprobs);
  if (o.echo) response->set_echo(true);
  if (o.special_tokens) response->set_skip_special_tokens(false);
  if (o.routed_experts) response->set_routed_experts(true);
}

}  // namespace

v1::StreamGenerateRequest MakeGenerateRequest(const ClientOptions& options) {
  const GenerateOptions& o = options.generate;
  v1::StreamGenerateRequest request;
  request.set_model(options.model);
  request.set_request_id(o.request_id);
  SetSampling(o, request.mutable_sampling());
  SetStopping(o, request.mutable_stopping());
  SetResponse(o, request.mutable_response());
  if (o.experts_per_token.has_value()) {
    request.mutable_moe()->set_experts_per_token(*o.experts_per_token);
  }
  if (o.priority.has_value()) request.mutable_scheduling()->set_priority(*o.priority);
  if (o.home_rank.has_value()) request.mutable_scheduling()->set_home_rank(*o.home_rank);
  request.mutable_cache()->set_bypass(o.no_cache);
  request.mutable_cache()->set_salt(o.cache_salt);
  return request;
}

}  // namespace moed
