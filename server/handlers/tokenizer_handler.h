// TokenizerService without the transport.
#pragma once

#include "absl/status/statusor.h"
#include "moed/v1/tokenizer.pb.h"
#include "server/state/request_limits.h"
#include "server/state/served_model.h"

namespace moed {

// FAILED_PRECONDITION where the model has no tokenizer; other errors as the contract states them.
absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request,
                                              const ServedModel& model);
absl::StatusOr<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& request,
                                                  const ServedModel& model);
absl::StatusOr<v1::RenderChatResponse> RenderChat(const v1::RenderChatRequest& request,
                                                  const ServedModel& model,
                                                  const RequestLimits& limits);

}  // namespace moed
