#include "client/generate_request.h"

namespace moed {

v1::StreamGenerateRequest MakeGenerateRequest(const ClientOptions& options) {
  const GenerateOptions& o = options.generate;
  v1::StreamGenerateRequest request;
  request.set_model(options.model);
  request.set_request_id(o.request_id);
  v1::SamplingParams* sampling = request.mutable_sampling();
  if (o.temperature.has_value()) sampling->set_temperature(*o.temperature);
  if (o.top_k.has_value()) sampling->set_top_k(*o.top_k);
  if (o.top_p.has_value()) sampling->set_top_p(*o.top_p);
  if (o.min_p.has_value()) sampling->set_min_p(*o.min_p);
  if (o.seed.has_value()) sampling->set_seed(*o.seed);
  v1::StoppingParams* stopping = request.mutable_stopping();
  if (o.max_tokens.has_value()) stopping->set_max_tokens(*o.max_tokens);
  if (o.min_tokens.has_value()) stopping->set_min_tokens(*o.min_tokens);
  stopping->mutable_stop_strings()->Assign(o.stop_strings.begin(), o.stop_strings.end());
  stopping->mutable_stop_token_ids()->Assign(o.stop_token_ids.begin(), o.stop_token_ids.end());
  stopping->set_ignore_eos(o.ignore_eos);
  if (o.logprobs.has_value()) request.mutable_response()->set_logprobs(*o.logprobs);
  return request;
}

}  // namespace moed
