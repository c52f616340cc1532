// Argument checks at the door of every operation: a wrong view is our own bug, and is named.
#pragma once

#include "kernels/backend.h"

namespace moed {

// Each aborts with the operation, the view, what it is and what it must be. `act` is the backend's
// activation dtype. Values (row indices, token ids) are not read.
void CheckEmbed(const EmbedArgs& args, DType act);
void CheckRmsNorm(const RmsNormArgs& args, DType act);
void CheckLinear(const LinearArgs& args, DType act);
void CheckRotaryCacheWrite(const RotaryCacheWriteArgs& args, DType act);
void CheckPagedAttention(const PagedAttentionArgs& args, DType act);
void CheckRoute(const RouteArgs& args, DType act);
void CheckCountChoices(const CountChoicesArgs& args);
void CheckLimitLoad(const LimitLoadArgs& args);
void CheckPlanSend(const PlanSendArgs& args);
void CheckIndexStaticSlots(const IndexStaticSlotsArgs& args);
void CheckGroupByExpert(const GroupByExpertArgs& args);
void CheckGatherRows(const GatherRowsArgs& args);
void CheckExpertFfn(const ExpertFfnArgs& args, DType act);
void CheckCombine(const CombineArgs& args, DType act);
void CheckFillSeeded(const FillSeededArgs& args);
void CheckSample(const SampleArgs& args);
void CheckTokenLogprobs(const TokenLogprobsArgs& args);

}  // namespace moed
