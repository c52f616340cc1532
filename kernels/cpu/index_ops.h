// The integer operations of the expert exchange. Exact, so every CPU backend shares them; they run
// on the caller's thread in a pass or two over the pairs and use no scratch memory. Contracts:
// kernels/backend.h.
#pragma once

#include "kernels/backend.h"

namespace moed {

void CountChoices(const CountChoicesArgs& args);
void LimitLoad(const LimitLoadArgs& args);
void PlanSend(const PlanSendArgs& args);
void IndexStaticSlots(const IndexStaticSlotsArgs& args);
void GroupByExpert(const GroupByExpertArgs& args);

}  // namespace moed
