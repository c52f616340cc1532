// The one way in: every front end has its requests checked and tokenised here.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "moed/v1/chat.pb.h"
#include "moed/v1/generation.pb.h"
#include "runtime/schedule/request.h"
#include "runtime/tokenizer/chat_format.h"
#include "server/state/request_limits.h"
#include "server/state/served_model.h"

namespace moed {

// A request that the engine can take, and what of its output the client wants to see.
struct AdmittedRequest {
  GenerationRequest request;
  bool send_text = true;
  bool send_token_ids = false;
};

// NOT_FOUND unless `name` is empty or the model's.
absl::Status CheckModelName(absl::string_view name, const ServedModel& model);

// The conversation in the model's chat format. FAILED_PRECONDITION where it has none or has no
// tokenizer; INVALID_ARGUMENT, naming the message by index, as ChatFormat has it.
absl::StatusOr<RenderedChat> RenderChatPrompt(const v1::ChatPrompt& chat, const ServedModel& model,
                                              const RequestLimits& limits);

// Thread-safe as far as `random` is. Every error names the field at fault; what a status code
// means is in docs/api.md.
class RequestValidator {
 public:
  // `random` gives 64 random bits: for seeds and request ids that the client left open.
  RequestValidator(RequestLimits limits, std::function<uint64_t()> random)
      : limits_(limits), random_(std::move(random)) {}

  const RequestLimits& limits() const { return limits_; }

  // Does not set the deadline. O(bytes of the prompt).
  absl::StatusOr<AdmittedRequest> Admit(const v1::GenerateRequest& request,
                                        const ServedModel& model) const;

 private:
  absl::StatusOr<std::vector<int32_t>> PromptTokens(const v1::GenerateRequest& request,
                                                    const ServedModel& model) const;
  absl::Status Response(const v1::ResponseOptions& response, const ServedModel& model,
                        AdmittedRequest* admitted) const;
  absl::StatusOr<int32_t> ExpertsPerToken(const v1::MoeParams& moe, const ServedModel& model) const;
  absl::StatusOr<SchedulingParams> Scheduling(const v1::SchedulingParams& scheduling,
                                              const ServedModel& model) const;
  absl::StatusOr<CacheParams> Cache(const v1::CacheParams& cache) const;
  absl::StatusOr<std::string> RequestId(absl::string_view requested) const;

  RequestLimits limits_;
  std::function<uint64_t()> random_;
};

}  // namespace moed
