#include "server/admission/request_validator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "kernels/core/status.h"
#include "server/admission/field_rules.h"
#include "server/admission/sampling_rules.h"
#include "server/admission/stopping_rules.h"
#include "server/admission/supported_fields.h"
#include "server/errors/error_details.h"

namespace moed {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;
constexpr int32_t kMaxPriority = 100;

// ChatFormat's "messages[2].role: expected ..." as an error of the request.
absl::Status ChatError(const absl::Status& error) {
  const std::string text = absl::StrCat("chat.", error.message());
  const auto [field, description] = std::pair<absl::string_view, absl::string_view>(
      absl::StrSplit(text, absl::MaxSplits(": ", 1)));
  return WithField(absl::Status(error.code(), text), field, description);
}

absl::Status PromptTooLong(absl::string_view field, size_t tokens, int32_t limit) {
  const absl::Status error = FieldError(field, absl::StrCat("is too long: the prompt has ", tokens,
                                                            " tokens, the context is ", limit));
  return WithReason(error, kReasonPromptTooLong,
                    {{"limit", absl::StrCat(limit)}, {"actual", absl::StrCat(tokens)}});
}

}  // namespace

absl::Status CheckModelName(absl::string_view name, const ServedModel& model) {
  if (name.empty() || name == model.name) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat("model: no such model here; \"", model.name, "\" is served"));
}

absl::StatusOr<RenderedChat> RenderChatPrompt(const v1::ChatPrompt& chat, const ServedModel& model,
                                              const RequestLimits& limits) {
  if (model.tokenizer == nullptr) return NoTokenizerError("chat");
  if (!model.chat_format.has_value()) {
    return FeatureOff(absl::FailedPreconditionError("chat: this model has no chat format"), "chat");
  }
  MOED_RETURN_IF_ERROR(CheckCount("chat.messages", chat.messages_size(), limits.chat_messages));
  std::vector<ChatMessage> messages;
  for (const v1::ChatMessage& message : chat.messages()) {
    messages.push_back({message.role(), message.content()});
  }
  absl::StatusOr<RenderedChat> rendered = model.chat_format->Render(messages);
  if (!rendered.ok()) return ChatError(rendered.status());
  return rendered;
}

absl::StatusOr<AdmittedRequest> RequestValidator::Admit(const v1::GenerateRequest& request,
                                                        const ServedModel& model) const {
  MOED_RETURN_IF_ERROR(CheckSupportedFields(request));
  MOED_RETURN_IF_ERROR(CheckModelName(request.model(), model));
  AdmittedRequest admitted;
  GenerationRequest& result = admitted.request;
  MOED_ASSIGN_OR_RETURN(result.request_id, RequestId(request.request_id()));
  MOED_ASSIGN_OR_RETURN(result.sampling,
                        CheckSampling(request.sampling(), model, limits_, random_));
  MOED_RETURN_IF_ERROR(Response(request.response(), model, &admitted));
  MOED_ASSIGN_OR_RETURN(result.experts_per_token, ExpertsPerToken(request.moe(), model));
  MOED_ASSIGN_OR_RETURN(result.scheduling, Scheduling(request.scheduling(), model));
  MOED_ASSIGN_OR_RETURN(result.cache, Cache(request.cache()));
  // The prompt comes late: a request that is refused for another field costs no tokenising.
  MOED_RETURN_IF_ERROR(CheckStopping(request.stopping(), model, limits_, 1).status());
  MOED_ASSIGN_OR_RETURN(result.prompt_token_ids, PromptTokens(request, model));
  const int64_t prompt_tokens = static_cast<int64_t>(result.prompt_token_ids.size());
  MOED_ASSIGN_OR_RETURN(result.stopping,
                        CheckStopping(request.stopping(), model, limits_, prompt_tokens));
  if (!result.stopping.stop_strings.empty()) result.response.text = true;
  return admitted;
}

absl::StatusOr<std::vector<int32_t>> RequestValidator::PromptTokens(
    const v1::GenerateRequest& request, const ServedModel& model) const {
  std::vector<int32_t> tokens;
  absl::string_view field;
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      field = "text";
      if (model.tokenizer == nullptr) return NoTokenizerError(field);
      if (request.text().empty()) {
        return FieldError(field, "must not be empty");
      }
      tokens = model.tokenizer->Encode(request.text(), {.add_bos = true});
      break;
    case v1::GenerateRequest::kTokenIds: {
      field = "token_ids.ids";
      MOED_ASSIGN_OR_RETURN(
          tokens, CheckTokenIds(field, request.token_ids().ids(), model.config.vocab_size));
      break;
    }
    case v1::GenerateRequest::kChat: {
      field = "chat";
      MOED_ASSIGN_OR_RETURN(RenderedChat rendered,
                            RenderChatPrompt(request.chat(), model, limits_));
      tokens = std::move(rendered.ids);
      break;
    }
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return FieldError("prompt", "must be set: one of text, token_ids and chat is needed");
  }
  if (tokens.empty()) {
    return FieldError(field, "must have at least one token");
  }
  if (static_cast<int64_t>(tokens.size()) > model.context_tokens) {
    return PromptTooLong(field, tokens.size(), model.context_tokens);
  }
  return tokens;
}

absl::Status RequestValidator::Response(const v1::ResponseOptions& response,
                                        const ServedModel& model, AdmittedRequest* admitted) const {
  if (response.text() && model.tokenizer == nullptr) return NoTokenizerError("response.text");
  ResponseOptions& result = admitted->request.response;
  admitted->send_text = response.has_text() ? response.text() : model.tokenizer != nullptr;
  admitted->send_token_ids = response.has_token_ids() ? response.token_ids() : !admitted->send_text;
  result.text = admitted->send_text;
  if (response.has_logprobs()) {
    MOED_RETURN_IF_ERROR(CheckRange("response.logprobs", response.logprobs(), 0, limits_.logprobs));
    result.num_logprobs = response.logprobs();
  }
  if (response.has_prompt_logprobs()) {
    MOED_RETURN_IF_ERROR(
        CheckRange("response.prompt_logprobs", response.prompt_logprobs(), 0, limits_.logprobs));
    result.num_prompt_logprobs = response.prompt_logprobs();
  }
  result.echo = response.echo();
  // The echoed prompt has log probabilities like the rest; what is told of the prompt apart from it
  // does not change.
  if (result.echo && result.num_logprobs > result.num_prompt_logprobs) {
    result.num_reported_prompt_logprobs = result.num_prompt_logprobs;
    result.num_prompt_logprobs = result.num_logprobs;
  }
  if (response.has_skip_special_tokens()) {
    result.skip_special_tokens = response.skip_special_tokens();
  }
  if (response.routed_experts() && !limits_.routed_experts) {
    return FeatureOff(absl::PermissionDeniedError(
                          "response.routed_experts is off on this server; its operator can allow "
                          "it with --allow-routed-experts"),
                      "response.routed_experts");
  }
  result.routed_experts = response.routed_experts();
  return absl::OkStatus();
}

absl::StatusOr<int32_t> RequestValidator::ExpertsPerToken(const v1::MoeParams& moe,
                                                          const ServedModel& model) const {
  if (!moe.has_experts_per_token()) return 0;
  MOED_RETURN_IF_ERROR(CheckRange("moe.experts_per_token", moe.experts_per_token(), 1,
                                  model.max_experts_per_token(limits_)));
  return moe.experts_per_token();
}

absl::StatusOr<SchedulingParams> RequestValidator::Scheduling(
    const v1::SchedulingParams& scheduling, const ServedModel& model) const {
  SchedulingParams result;
  MOED_RETURN_IF_ERROR(
      CheckRange("scheduling.priority", scheduling.priority(), -kMaxPriority, kMaxPriority));
  result.priority = scheduling.priority();
  if (!scheduling.has_home_rank()) return result;
  MOED_RETURN_IF_ERROR(
      CheckRange("scheduling.home_rank", scheduling.home_rank(), 0, model.num_ranks - 1));
  result.home_rank = scheduling.home_rank();
  return result;
}

absl::StatusOr<CacheParams> RequestValidator::Cache(const v1::CacheParams& cache) const {
  if (cache.salt().size() > static_cast<size_t>(limits_.cache_salt_bytes)) {
    return FieldError("cache.salt", absl::StrCat("must have at most ", limits_.cache_salt_bytes,
                                                 " bytes, got ", cache.salt().size()));
  }
  return CacheParams{.bypass = cache.bypass(), .salt = cache.salt()};
}

absl::StatusOr<std::string> RequestValidator::RequestId(absl::string_view requested) const {
  if (requested.empty()) return absl::StrFormat("req-%016x", random_());
  const bool printable =
      std::all_of(requested.begin(), requested.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (!printable || requested.size() > kMaxRequestIdBytes) {
    return FieldError("request_id", absl::StrCat("must be 1 to ", kMaxRequestIdBytes,
                                                 " printable ASCII characters without spaces, got ",
                                                 requested.size(), " bytes"));
  }
  return std::string(requested);
}

}  // namespace moed
