// Fuzzes the way in: what a request's bytes come to is refused with a short text that repeats
// nothing of it, or is within every bound that the engine relies on.
//
// Input: a serialized moed.v1.GenerateRequest.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "google/protobuf/stubs/logging.h"
#include "kernels/core/check.h"
#include "moed/v1/generation.pb.h"
#include "runtime/tokenizer/utf8.h"
#include "server/admission/request_validator.h"
#include "server/errors/error_details.h"
#include "tests/server/support/served_models.h"

namespace {

using moed::AdmittedRequest;

constexpr size_t kMostErrorBytes = 400;

void CheckIds(const std::vector<int32_t>& ids) {
  for (const int32_t id : ids) MOED_CHECK(id >= 0 && id < moed::kTestVocab, "an id is a token's");
}

void CheckRefusal(const absl::Status& status) {
  const absl::StatusCode code = status.code();
  MOED_CHECK(code == absl::StatusCode::kInvalidArgument || code == absl::StatusCode::kNotFound ||
                 code == absl::StatusCode::kPermissionDenied ||
                 code == absl::StatusCode::kFailedPrecondition,
             "a bad request is the client's fault");
  MOED_CHECK(!status.message().empty() && status.message().size() < kMostErrorBytes,
             "an error is a short text");
  MOED_CHECK(moed::IsValidUtf8(status.message()), "an error can be sent");
  const google::rpc::Status wire = moed::ToRpcStatus(status);
  MOED_CHECK(wire.ByteSizeLong() < 4 * kMostErrorBytes, "details are short too");
}

void CheckSampling(const moed::SamplingParams& sampling, const moed::RequestLimits& limits) {
  MOED_CHECK(std::isfinite(sampling.temperature) && sampling.temperature >= 0, "temperature");
  MOED_CHECK(sampling.top_p > 0 && sampling.top_p <= 1, "top_p");
  MOED_CHECK(sampling.min_p >= 0 && sampling.min_p <= 1, "min_p");
  MOED_CHECK(sampling.typical_p > 0 && sampling.typical_p <= 1, "typical_p");
  MOED_CHECK(sampling.top_k >= 0, "top_k");
  MOED_CHECK(sampling.n >= 1 && sampling.n <= limits.n, "n");
  MOED_CHECK(std::isfinite(sampling.repetition_penalty) && sampling.repetition_penalty > 0,
             "repetition_penalty");
  MOED_CHECK(std::isfinite(sampling.presence_penalty) && std::isfinite(sampling.frequency_penalty),
             "penalties");
}

void CheckLists(const moed::SamplingParams& sampling) {
  for (const moed::TokenBias& bias : sampling.logit_bias) {
    CheckIds({bias.token_id});
    MOED_CHECK(std::isfinite(bias.bias), "a bias is a number");
  }
  CheckIds(sampling.allowed_token_ids);
  for (size_t i = 1; i < sampling.allowed_token_ids.size(); ++i) {
    MOED_CHECK(sampling.allowed_token_ids[i - 1] < sampling.allowed_token_ids[i], "ascending ids");
  }
  for (const std::vector<int32_t>& word : sampling.bad_words) {
    MOED_CHECK(!word.empty(), "a bad word has tokens");
    CheckIds(word);
  }
}

void CheckStopping(const moed::StoppingParams& stopping, const moed::RequestLimits& limits,
                   size_t prompt_tokens) {
  // A prompt that fills the context still gets one token.
  MOED_CHECK(stopping.max_tokens > 0, "at least a token");
  MOED_CHECK(prompt_tokens + stopping.max_tokens <= moed::kTestContext + 1, "within the context");
  MOED_CHECK(stopping.min_tokens >= 0, "min_tokens");
  MOED_CHECK(stopping.stop_strings.size() <= static_cast<size_t>(limits.stop_strings), "stops");
  for (const std::string& text : stopping.stop_strings) {
    MOED_CHECK(!text.empty() && text.size() <= static_cast<size_t>(limits.stop_string_bytes) &&
                   moed::IsValidUtf8(text),
               "a stop string");
  }
  CheckIds(stopping.stop_token_ids);
  MOED_CHECK(!stopping.time_limit.has_value() || stopping.time_limit->count() > 0, "time_limit");
}

void CheckAdmitted(const AdmittedRequest& admitted, const moed::RequestLimits& limits) {
  const moed::GenerationRequest& request = admitted.request;
  MOED_CHECK(!request.request_id.empty() && request.request_id.size() <= 128, "an id");
  const size_t prompt_tokens = request.prompt_token_ids.size();
  MOED_CHECK(prompt_tokens >= 1 && prompt_tokens <= moed::kTestContext, "fits the context");
  CheckIds(request.prompt_token_ids);
  CheckSampling(request.sampling, limits);
  CheckLists(request.sampling);
  CheckStopping(request.stopping, limits, prompt_tokens);
  const moed::ResponseOptions& response = request.response;
  MOED_CHECK(response.num_logprobs >= -1 && response.num_logprobs <= limits.logprobs, "logprobs");
  MOED_CHECK(response.num_prompt_logprobs >= -1 && response.num_prompt_logprobs <= limits.logprobs,
             "prompt_logprobs");
  MOED_CHECK(!response.routed_experts, "routed experts are off");
  MOED_CHECK(request.experts_per_token >= 0 && request.experts_per_token <= 2, "experts");
  MOED_CHECK(!request.scheduling.home_rank.has_value() || request.scheduling.home_rank == 0,
             "a rank that there is");
  MOED_CHECK(!request.deadline.has_value(), "the deadline is the call's");
}

const moed::RequestLimits& Limits() {
  static const moed::RequestLimits kLimits;
  return kLimits;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool kQuiet = [] {
    google::protobuf::SetLogHandler(nullptr);  // a bad text is no news here
    return true;
  }();
  static const auto kModel = moed::MakeServedModel();
  static const auto kModelOfIds = moed::MakeServedModel(/*with_tokenizer=*/false);
  static const moed::RequestValidator kValidator(Limits(), [] { return uint64_t{7}; });
  moed::v1::GenerateRequest request;
  if (!kQuiet || !request.ParseFromArray(data, static_cast<int>(size))) return 0;
  for (const auto& model : {kModel, kModelOfIds}) {
    const auto admitted = kValidator.Admit(request, *model);
    if (admitted.ok()) {
      CheckAdmitted(*admitted, Limits());
    } else {
      CheckRefusal(admitted.status());
    }
  }
  return 0;
}
