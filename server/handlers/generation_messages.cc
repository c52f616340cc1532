#include "server/handlers/generation_messages.h"

#include <utility>

namespace moed {
namespace {

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

void SetFinish(const GenerationFinish& finish, uint32_t experts_per_token,
               v1::GenerationFinish* result) {
  result->set_reason(ToProto(finish.reason));
  if (!finish.matched_stop_string.empty()) {
    result->set_stop_string(finish.matched_stop_string);
  } else if (finish.matched_token_id >= 0) {
    result->set_token_id(static_cast<uint32_t>(finish.matched_token_id));
  }
  v1::Usage* usage = result->mutable_usage();
  usage->set_prompt_tokens(static_cast<uint32_t>(finish.prompt_tokens));
  usage->set_completion_tokens(static_cast<uint32_t>(finish.completion_tokens));
  v1::Timing* timing = result->mutable_timing();
  timing->set_queue_seconds(finish.queue_seconds);
  timing->set_first_token_seconds(finish.first_token_seconds);
  timing->set_total_seconds(finish.total_seconds);
  if (finish.completion_tokens > 1) {
    timing->set_mean_inter_token_seconds((finish.total_seconds - finish.first_token_seconds) /
                                         (finish.completion_tokens - 1));
  }
  result->set_experts_per_token(experts_per_token);
}

}  // namespace

GenerationMessages::GenerationMessages(const AdmittedRequest& admitted, int64_t experts_per_token)
    : request_id_(admitted.request.request_id),
      send_text_(admitted.send_text),
      send_token_ids_(admitted.send_token_ids),
      prompt_tokens_(static_cast<uint32_t>(admitted.request.prompt_token_ids.size())),
      experts_per_token_(static_cast<uint32_t>(experts_per_token)) {}

v1::StreamGenerateResponse GenerationMessages::Next(GenerationDelta delta,
                                                    const GenerationFinish* finish) {
  v1::StreamGenerateResponse message;
  message.set_request_id(request_id_);
  message.set_sequence(sequence_);
  if (sequence_ == 0) message.mutable_prompt()->set_prompt_tokens(prompt_tokens_);
  ++sequence_;
  if (send_text_) *message.mutable_text_delta() = std::move(delta.text);
  if (send_token_ids_) {
    message.mutable_token_ids()->Assign(delta.token_ids.begin(), delta.token_ids.end());
  }
  for (const TokenLogprob& logprob : delta.logprobs) {
    v1::TokenLogprobs* entry = message.add_logprobs();
    entry->set_token_id(static_cast<uint32_t>(logprob.token_id));
    entry->set_logprob(logprob.logprob);
    for (const auto& [id, value] : logprob.top) {
      v1::TokenLogprob* top = entry->add_top();
      top->set_token_id(static_cast<uint32_t>(id));
      top->set_logprob(value);
    }
  }
  if (finish != nullptr) SetFinish(*finish, experts_per_token_, message.mutable_finish());
  return message;
}

void AppendToResponse(v1::StreamGenerateResponse message, v1::GenerateResponse* response) {
  if (message.has_prompt()) {
    response->set_request_id(message.request_id());
    *response->mutable_prompt() = std::move(*message.mutable_prompt());
    response->add_continuations();
  }
  v1::Continuation* continuation = response->mutable_continuations(0);
  continuation->mutable_text()->append(message.text_delta());
  continuation->mutable_token_ids()->MergeFrom(message.token_ids());
  continuation->mutable_logprobs()->MergeFrom(message.logprobs());
  if (message.has_finish()) {
    *continuation->mutable_finish() = std::move(*message.mutable_finish());
  }
}

}  // namespace moed
