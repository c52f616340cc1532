#include "server/handlers/generation_messages.h"

#include <utility>

#include "google/protobuf/repeated_ptr_field.h"

namespace moed {
namespace {

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kTimeLimit:
      return v1::FINISH_REASON_TIME_LIMIT;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

void SetLogprobs(const std::vector<TokenLogprob>& logprobs,
                 google::protobuf::RepeatedPtrField<v1::TokenLogprobs>* result) {
  for (const TokenLogprob& logprob : logprobs) {
    v1::TokenLogprobs* entry = result->Add();
    entry->set_token_id(static_cast<uint32_t>(logprob.token_id));
    entry->set_logprob(logprob.logprob);
    for (const auto& [id, value] : logprob.top) {
      v1::TokenLogprob* top = entry->add_top();
      top->set_token_id(static_cast<uint32_t>(id));
      top->set_logprob(value);
    }
  }
}

void SetPrompt(const PromptReport& report, v1::PromptInfo* result) {
  result->set_prompt_tokens(static_cast<uint32_t>(report.prompt_tokens));
  result->set_cached_tokens(static_cast<uint32_t>(report.cached_tokens));
  SetLogprobs(report.logprobs, result->mutable_prompt_logprobs());
}

void SetRoutedExperts(const std::vector<int16_t>& expert_ids, uint32_t num_layers,
                      uint32_t experts_per_token, v1::RoutedExperts* result) {
  result->mutable_expert_ids()->Assign(expert_ids.begin(), expert_ids.end());
  result->set_num_tokens(
      static_cast<uint32_t>(expert_ids.size() / (size_t{num_layers} * experts_per_token)));
  result->set_num_layers(num_layers);
  result->set_experts_per_token(experts_per_token);
}

void SetTiming(const ChoiceFinish& finish, v1::Timing* timing) {
  timing->set_queue_seconds(finish.queue_seconds);
  timing->set_first_token_seconds(finish.first_token_seconds);
  timing->set_total_seconds(finish.total_seconds);
  if (finish.completion_tokens > 1) {
    timing->set_mean_inter_token_seconds((finish.total_seconds - finish.first_token_seconds) /
                                         (finish.completion_tokens - 1));
  }
  timing->set_preemptions(static_cast<uint32_t>(finish.usage.num_preemptions));
}

void SetFinish(const ChoiceFinish& finish, uint32_t experts_per_token,
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
  usage->set_cached_tokens(static_cast<uint32_t>(finish.usage.cached_tokens));
  SetTiming(finish, result->mutable_timing());
  result->set_experts_per_token(experts_per_token);
  result->set_dropped_pairs(static_cast<uint64_t>(finish.usage.dropped_pairs));
}

void AppendRoutedExperts(v1::RoutedExperts piece, v1::RoutedExperts* whole) {
  const uint32_t num_tokens = whole->num_tokens() + piece.num_tokens();
  if (whole->expert_ids().empty()) {
    *whole = std::move(piece);
  } else {
    whole->mutable_expert_ids()->MergeFrom(piece.expert_ids());
  }
  whole->set_num_tokens(num_tokens);
}

}  // namespace

GenerationMessages::GenerationMessages(const AdmittedRequest& admitted, const ServedModel& model)
    : request_id_(admitted.request.request_id),
      send_text_(admitted.send_text),
      send_token_ids_(admitted.send_token_ids),
      num_layers_(static_cast<uint32_t>(model.config.num_layers)),
      experts_per_token_(static_cast<uint32_t>(admitted.request.experts_per_token > 0
                                                   ? admitted.request.experts_per_token
                                                   : model.config.top_k)) {}

v1::StreamGenerateResponse GenerationMessages::Next(GenerationDelta delta) {
  v1::StreamGenerateResponse message;
  message.set_request_id(request_id_);
  message.set_sequence(sequence_++);
  message.set_index(static_cast<uint32_t>(delta.choice));
  if (delta.prompt.has_value()) SetPrompt(*delta.prompt, message.mutable_prompt());
  if (send_text_) *message.mutable_text_delta() = std::move(delta.text);
  if (send_token_ids_) {
    message.mutable_token_ids()->Assign(delta.token_ids.begin(), delta.token_ids.end());
  }
  SetLogprobs(delta.logprobs, message.mutable_logprobs());
  if (!delta.routed_experts.empty()) {
    SetRoutedExperts(delta.routed_experts, num_layers_, experts_per_token_,
                     message.mutable_routed_experts());
  }
  if (delta.finish.has_value()) {
    SetFinish(*delta.finish, experts_per_token_, message.mutable_finish());
  }
  return message;
}

void AppendToResponse(v1::StreamGenerateResponse message, v1::GenerateResponse* response) {
  if (message.has_prompt()) {
    response->set_request_id(message.request_id());
    *response->mutable_prompt() = std::move(*message.mutable_prompt());
  }
  const int index = static_cast<int>(message.index());
  while (response->continuations_size() <= index) {
    const auto next = static_cast<uint32_t>(response->continuations_size());
    response->add_continuations()->set_index(next);
  }
  v1::Continuation* continuation = response->mutable_continuations(index);
  continuation->mutable_text()->append(message.text_delta());
  continuation->mutable_token_ids()->MergeFrom(message.token_ids());
  continuation->mutable_logprobs()->MergeFrom(message.logprobs());
  if (message.has_routed_experts()) {
    AppendRoutedExperts(std::move(*message.mutable_routed_experts()),
                        continuation->mutable_routed_experts());
  }
  if (message.has_finish()) {
    *continuation->mutable_finish() = std::move(*message.mutable_finish());
  }
}

}  // namespace moed
