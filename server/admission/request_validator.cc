#include "server/admission/request_validator.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/core/status.h"
#include "server/admission/field_rules.h"
#include "server/admission/supported_fields.h"

namespace moed {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;
constexpr float kMaxTemperature = 100.0F;

absl::Status NoTokenizer(absl::string_view field) {
  return absl::FailedPreconditionError(
      absl::StrCat(field,
                   " needs a tokenizer, and this model has none: it takes and gives token "
                   "ids"));
}

}  // namespace

absl::Status CheckModelName(absl::string_view name, const ServedModel& model) {
  if (name.empty() || name == model.name) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat("model: no such model here; \"", model.name, "\" is served"));
}

absl::StatusOr<RenderedChat> RenderChatPrompt(const v1::ChatPrompt& chat, const ServedModel& model,
                                              const RequestLimits& limits) {
  if (model.tokenizer == nullptr) return NoTokenizer("chat");
  if (!model.chat_format.has_value()) {
    return absl::FailedPreconditionError("chat: this model has no chat format");
  }
  MOED_RETURN_IF_ERROR(CheckCount("chat.messages", chat.messages_size(), limits.chat_messages));
  std::vector<ChatMessage> messages;
  for (const v1::ChatMessage& message : chat.messages()) {
    messages.push_back({message.role(), message.content()});
  }
  absl::StatusOr<RenderedChat> rendered = model.chat_format->Render(messages);
  if (!rendered.ok()) {
    return absl::Status(rendered.status().code(),
                        absl::StrCat("chat.", rendered.status().message()));
  }
  return rendered;
}

absl::StatusOr<AdmittedRequest> RequestValidator::Admit(const v1::GenerateRequest& request,
                                                        const ServedModel& model) const {
  MOED_RETURN_IF_ERROR(CheckSupportedFields(request));
  MOED_RETURN_IF_ERROR(CheckModelName(request.model(), model));
  AdmittedRequest admitted;
  GenerationRequest& result = admitted.request;
  MOED_ASSIGN_OR_RETURN(result.request_id, RequestId(request.request_id()));
  MOED_ASSIGN_OR_RETURN(result.sampling, Sampling(request.sampling(), model));
  MOED_RETURN_IF_ERROR(Response(request.response(), model, &admitted));
  // The prompt comes late: a request that is refused for another field costs no tokenising.
  MOED_RETURN_IF_ERROR(Stopping(request.stopping(), model, 1).status());
  MOED_ASSIGN_OR_RETURN(result.prompt_token_ids, PromptTokens(request, model));
  const int64_t prompt_tokens = static_cast<int64_t>(result.prompt_token_ids.size());
  MOED_ASSIGN_OR_RETURN(result.stopping, Stopping(request.stopping(), model, prompt_tokens));
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
      if (model.tokenizer == nullptr) return NoTokenizer(field);
      if (request.text().empty()) {
        return absl::InvalidArgumentError("text must not be empty");
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
      return absl::InvalidArgumentError("prompt: one of text, token_ids and chat is needed");
  }
  if (tokens.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(field, " must have at least one token"));
  }
  if (static_cast<int64_t>(tokens.size()) > model.context_tokens) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": the prompt has ", tokens.size(),
                                                   " tokens, the context is ",
                                                   model.context_tokens));
  }
  return tokens;
}

absl::StatusOr<SamplingParams> RequestValidator::Sampling(const v1::SamplingParams& sampling,
                                                          const ServedModel& model) const {
  SamplingParams result;
  result.temperature =
      sampling.has_temperature() ? sampling.temperature() : model.default_temperature();
  result.top_k = sampling.has_top_k() ? sampling.top_k() : model.default_top_k();
  result.top_p = sampling.has_top_p() ? sampling.top_p() : model.default_top_p();
  result.min_p = sampling.has_min_p() ? sampling.min_p() : model.default_min_p();
  MOED_RETURN_IF_ERROR(
      CheckRange("sampling.temperature", result.temperature, 0.0F, kMaxTemperature));
  MOED_RETURN_IF_ERROR(
      CheckRange("sampling.top_k", result.top_k, 0, std::numeric_limits<int32_t>::max()));
  if (!(result.top_p > 0.0F && result.top_p <= 1.0F)) {
    return absl::InvalidArgumentError(
        absl::StrCat("sampling.top_p must be in (0, 1], got ", result.top_p));
  }
  MOED_RETURN_IF_ERROR(CheckRange("sampling.min_p", result.min_p, 0.0F, 1.0F));
  if (sampling.has_n()) {
    MOED_RETURN_IF_ERROR(CheckRange("sampling.n", sampling.n(), 1, limits_.n));
    if (sampling.n() > 1) {
      return absl::FailedPreconditionError("sampling.n above 1 is not supported by this build");
    }
  }
  result.seed = sampling.has_seed() ? sampling.seed() : random_();
  return result;
}

absl::StatusOr<StoppingParams> RequestValidator::Stopping(const v1::StoppingParams& stopping,
                                                          const ServedModel& model,
                                                          int64_t prompt_tokens) const {
  constexpr int32_t kMaxInt = std::numeric_limits<int32_t>::max();
  StoppingParams result;
  result.max_tokens = stopping.has_max_tokens() ? stopping.max_tokens() : kMaxInt;
  result.min_tokens = stopping.min_tokens();
  MOED_RETURN_IF_ERROR(CheckRange("stopping.max_tokens", result.max_tokens, 1, kMaxInt));
  if (result.min_tokens < 0 || result.min_tokens > result.max_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("stopping.min_tokens must be in [0, max_tokens"
                     "], got ",
                     result.min_tokens));
  }
  if (!stopping.has_max_tokens()) {
    result.max_tokens = std::max(limits_.default_max_tokens, result.min_tokens);
  }
  // The last token of a continuation is not read again, so it needs no place in the context.
  const int32_t room = static_cast<int32_t>(model.context_tokens - prompt_tokens + 1);
  result.max_tokens = std::min(result.max_tokens, room);
  result.min_tokens = std::min(result.min_tokens, result.max_tokens);

  MOED_RETURN_IF_ERROR(
      CheckCount("stopping.stop_strings", stopping.stop_strings_size(), limits_.stop_strings));
  for (int index = 0; index < stopping.stop_strings_size(); ++index) {
    const std::string& stop = stopping.stop_strings(index);
    if (stop.empty() || stop.size() > static_cast<size_t>(limits_.stop_string_bytes)) {
      return absl::InvalidArgumentError(absl::StrCat("stopping.stop_strings[", index,
                                                     "] must have 1 to ", limits_.stop_string_bytes,
                                                     " bytes, got ", stop.size()));
    }
    result.stop_strings.push_back(stop);
  }
  if (!result.stop_strings.empty() && model.tokenizer == nullptr) {
    return NoTokenizer("stopping.stop_strings");
  }
  MOED_RETURN_IF_ERROR(CheckCount("stopping.stop_token_ids", stopping.stop_token_ids_size(),
                                  limits_.stop_token_ids));
  MOED_ASSIGN_OR_RETURN(
      result.stop_token_ids,
      CheckTokenIds("stopping.stop_token_ids", stopping.stop_token_ids(), model.config.vocab_size));
  if (!stopping.ignore_eos()) result.eos_token_ids = model.eos_token_ids();
  return result;
}

absl::Status RequestValidator::Response(const v1::ResponseOptions& response,
                                        const ServedModel& model, AdmittedRequest* admitted) const {
  if (response.text() && model.tokenizer == nullptr) return NoTokenizer("response.text");
  admitted->send_text = response.has_text() ? response.text() : model.tokenizer != nullptr;
  admitted->send_token_ids = response.has_token_ids() ? response.token_ids() : !admitted->send_text;
  admitted->request.response.text = admitted->send_text;
  if (response.has_logprobs()) {
    MOED_RETURN_IF_ERROR(CheckRange("response.logprobs", response.logprobs(), 0, limits_.logprobs));
    admitted->request.response.num_logprobs = response.logprobs();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> RequestValidator::RequestId(absl::string_view requested) const {
  if (requested.empty()) return absl::StrFormat("req-%016x", random_());
  const bool printable =
      std::all_of(requested.begin(), requested.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (!printable || requested.size() > kMaxRequestIdBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "request_id must be 1 to ", kMaxRequestIdBytes,
        " printable ASCII characters without spaces, got ", requested.size(), " bytes"));
  }
  return std::string(requested);
}

}  // namespace moed
