#include "server/rpc/generation_call.h"

#include <grpc/support/time.h>

#include <chrono>
#include <optional>
#include <utility>

#include "kernels/core/status.h"
#include "server/rpc/call_deadline.h"
#include "server/rpc/wire.h"

namespace moed {
namespace {

constexpr char kRetryPushbackKey[] = "grpc-retry-pushback-ms";
constexpr char kRetryPushbackMs[] = "1000";

// The call's deadline on the clock that never jumps; none where the client set none.
std::optional<TimePoint> Deadline(const grpc::CallbackServerContext& context) {
  const gpr_timespec deadline = context.raw_deadline();
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
  return DeadlineAfter(left, std::chrono::steady_clock::now());
}

}  // namespace

absl::StatusOr<GenerationCall> AdmitCall(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer& bytes, const ServingState& state,
                                         const RequestValidator& validator) {
  // A StreamGenerateRequest has the same fields under the same numbers.
  v1::GenerateRequest request;
  MOED_RETURN_IF_ERROR(ParseMessage(bytes, &request));
  GenerationCall call;
  MOED_ASSIGN_OR_RETURN(call.serving, state.Get());
  MOED_ASSIGN_OR_RETURN(call.admitted, validator.Admit(request, *call.serving.model));
  call.admitted.request.deadline = Deadline(*context);
  return call;
}

absl::Status SubmitCall(grpc::CallbackServerContext* context, GenerationCall call,
                        std::shared_ptr<GenerationSink> sink) {
  const absl::Status status =
      call.serving.engine->Submit(std::move(call.admitted.request), std::move(sink));
  if (absl::IsResourceExhausted(status)) {
    context->AddTrailingMetadata(kRetryPushbackKey, kRetryPushbackMs);
  }
  return status;
}

}  // namespace moed
