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

// The call's deadline on the clock that never jumps; none where the client set none.
std::optional<TimePoint> Deadline(const grpc::CallbackServerContext& context) {
  const gpr_timespec deadline = context.raw_deadline();
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
  return DeadlineAfter(left, std::chrono::steady_clock::now());
}

absl::StatusOr<GenerationCall> Prepare(const grpc::CallbackServerContext& context,
                                       const grpc::ByteBuffer& bytes,
                                       const absl::StatusOr<Caller>& caller,
                                       const GenerationParts& parts) {
  MOED_RETURN_IF_ERROR(caller.status());
  MOED_RETURN_IF_ERROR(parts.gate.CheckSize(bytes));
  // A StreamGenerateRequest has the same fields under the same numbers.
  v1::GenerateRequest request;
  MOED_RETURN_IF_ERROR(ParseMessage(bytes, &request));
  GenerationCall call;
  MOED_ASSIGN_OR_RETURN(call.serving, parts.gate.GetServing());
  // Before the prompt is tokenised: a client at its limit costs nothing.
  MOED_ASSIGN_OR_RETURN(call.place, parts.limiter->Enter(caller->client));
  MOED_ASSIGN_OR_RETURN(call.admitted, parts.validator->Admit(request, *call.serving.model));
  call.admitted.request.deadline = Deadline(context);
  call.record.client = caller->client;
  call.record.request_id = call.admitted.request.request_id;
  call.record.num_choices = call.admitted.request.sampling.n;
  return call;
}

}  // namespace

absl::StatusOr<GenerationCall> AdmitCall(const grpc::CallbackServerContext& context,
                                         const grpc::ByteBuffer& bytes, const char* method,
                                         const GenerationParts& parts) {
  const TimePoint received_at = std::chrono::steady_clock::now();
  const absl::StatusOr<Caller> caller = parts.gate.Admit(context, Access::kGenerate);
  absl::StatusOr<GenerationCall> call = Prepare(context, bytes, caller, parts);
  if (!call.ok()) {
    parts.gate.Record(method, caller, call.status(), received_at);
    return call;
  }
  call->record.method = method;
  call->received_at = received_at;
  return call;
}

}  // namespace moed
