// Router, counts and the plans of the exchange, on the device: contracts in kernels/backend.h. Each
// checks nothing, opens no range, waits for nothing; errors are noted on the stream. Integers are
// exact: the same as the CPU's.
#pragma once

#include "kernels/backend.h"
#include "kernels/cuda/cuda_stream.h"

namespace moed::cuda {

void Route(CudaStream& stream, const RouteArgs& args);
void CountChoices(CudaStream& stream, const CountChoicesArgs& args);
void LimitLoad(CudaStream& stream, const LimitLoadArgs& args);
void PlanSend(CudaStream& stream, const PlanSendArgs& args);
void IndexStaticSlots(CudaStream& stream, const IndexStaticSlotsArgs& args);
void GroupByExpert(CudaStream& stream, const GroupByExpertArgs& args);

}  // namespace moed::cuda
