// TokenizerService without the transport.
#pragma once

#include <cstddef>

#include "absl/status/statusor.h"
#include "moed/v1/tokenizer.pb.h"
#include "server/state/request_limits.h"
#include "server/state/served_model.h"

namespace moed {

// The longest text that Tokenize gives offsets of, so that the answer stays a few times as long.
inline constexpr size_t kMaxOffsetsTextBytes = size_t{1} << 20;

// FAILED_PRECONDITION where the model has no tokenizer; other errors as the contract states them.
absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request,
                                              const ServedModel& model);
absl::StatusOr<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& request,
                                                  const ServedModel& model);
absl::StatusOr<v1::RenderChatResponse> RenderChat(const v1::RenderChatRequest& request,
                                                  const ServedModel& model,
                                                  const RequestLimits& limits);

}  // namespace moed
