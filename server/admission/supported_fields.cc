#include "server/admission/supported_fields.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "server/admission/field_rules.h"

namespace moed {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr absl::string_view kRequestFields[] = {"request_id", "model",      "text",     "token_ids",
                                                "chat",       "sampling",   "stopping", "response",
                                                "moe",        "scheduling", "cache"};
constexpr absl::string_view kSamplingFields[] = {"temperature",
                                                 "top_k",
                                                 "top_p",
                                                 "min_p",
                                                 "typical_p",
                                                 "seed",
                                                 "n",
                                                 "bad_words",
                                                 "presence_penalty",
                                                 "frequency_penalty",
                                                 "logit_bias",
                                                 "repetition_penalty",
                                                 "allowed_token_ids"};
constexpr absl::string_view kStoppingFields[] = {"max_tokens",     "min_tokens",   "stop_strings",
                                                 "stop_token_ids", "include_stop", "ignore_eos",
                                                 "time_limit_ms"};
constexpr absl::string_view kResponseFields[] = {
    "text", "token_ids",           "logprobs",      "prompt_logprobs",
    "echo", "skip_special_tokens", "routed_experts"};
constexpr absl::string_view kMoeFields[] = {"experts_per_token"};
constexpr absl::string_view kSchedulingFields[] = {"priority", "home_rank"};
constexpr absl::string_view kCacheFields[] = {"bypass", "salt"};

absl::Status Check(const Message& message, absl::string_view path,
                   absl::Span<const absl::string_view> supported) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const absl::string_view name(field->name());
    if (std::find(supported.begin(), supported.end(), name) == supported.end()) {
      const std::string field_path = absl::StrCat(path, name);
      return FeatureOff(absl::FailedPreconditionError(
                            absl::StrCat(field_path, " is not supported by this build")),
                        field_path);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSupportedFields(const v1::GenerateRequest& request) {
  absl::Status status = Check(request, "", kRequestFields);
  status.Update(Check(request.sampling(), "sampling.", kSamplingFields));
  status.Update(Check(request.stopping(), "stopping.", kStoppingFields));
  status.Update(Check(request.response(), "response.", kResponseFields));
  status.Update(Check(request.moe(), "moe.", kMoeFields));
  status.Update(Check(request.scheduling(), "scheduling.", kSchedulingFields));
  status.Update(Check(request.cache(), "cache.", kCacheFields));
  return status;
}

}  // namespace moed
