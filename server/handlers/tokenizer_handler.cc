#include "server/handlers/tokenizer_handler.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "server/admission/field_rules.h"
#include "server/admission/request_validator.h"

namespace moed {
namespace {

absl::Status CheckTokenizer(const ServedModel& model) {
  if (model.tokenizer != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError("this model has no tokenizer: it takes and gives token ids");
}

}  // namespace

absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request,
                                              const ServedModel& model) {
  MOED_RETURN_IF_ERROR(CheckModelName(request.model(), model));
  MOED_RETURN_IF_ERROR(CheckTokenizer(model));
  const bool add_bos = !request.has_add_special_tokens() || request.add_special_tokens();
  v1::TokenizeResponse response;
  if (!request.include_offsets()) {
    const std::vector<int32_t> ids = model.tokenizer->Encode(request.text(), {.add_bos = add_bos});
    response.mutable_token_ids()->Assign(ids.begin(), ids.end());
    return response;
  }
  if (request.text().size() > kMaxOffsetsTextBytes) {
    return absl::InvalidArgumentError(absl::StrCat("text must have at most ", kMaxOffsetsTextBytes,
                                                   " bytes with include_offsets, got ",
                                                   request.text().size()));
  }
  const Encoding encoding =
      model.tokenizer->EncodeWithOffsets(request.text(), {.add_bos = add_bos});
  response.mutable_token_ids()->Assign(encoding.ids.begin(), encoding.ids.end());
  for (const TextSpan& span : encoding.spans) {
    v1::TokenOffset* offset = response.add_offsets();
    offset->set_begin(static_cast<uint32_t>(span.begin));
    offset->set_end(static_cast<uint32_t>(span.end));
  }
  return response;
}

absl::StatusOr<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& request,
                                                  const ServedModel& model) {
  MOED_RETURN_IF_ERROR(CheckModelName(request.model(), model));
  MOED_RETURN_IF_ERROR(CheckTokenizer(model));
  MOED_ASSIGN_OR_RETURN(
      const std::vector<int32_t> ids,
      CheckTokenIds("token_ids", request.token_ids(), model.tokenizer->vocab_size()));
  const bool skip = !request.has_skip_special_tokens() || request.skip_special_tokens();
  v1::DetokenizeResponse response;
  MOED_ASSIGN_OR_RETURN(*response.mutable_text(), model.tokenizer->Decode(ids, skip));
  return response;
}

absl::StatusOr<v1::RenderChatResponse> RenderChat(const v1::RenderChatRequest& request,
                                                  const ServedModel& model,
                                                  const RequestLimits& limits) {
  MOED_RETURN_IF_ERROR(CheckModelName(request.model(), model));
  MOED_RETURN_IF_ERROR(CheckTokenizer(model));
  MOED_ASSIGN_OR_RETURN(RenderedChat rendered, RenderChatPrompt(request.chat(), model, limits));
  v1::RenderChatResponse response;
  *response.mutable_text() = std::move(rendered.text);
  response.mutable_token_ids()->Assign(rendered.ids.begin(), rendered.ids.end());
  return response;
}

}  // namespace moed
