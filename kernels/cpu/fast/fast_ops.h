// The float operations on vectors and threads. Contracts: kernels/backend.h.
#pragma once

#include <cstdint>

#include "kernels/backend.h"
#include "kernels/core/thread_pool.h"
#include "kernels/cpu/fast/workspace.h"
#include "kernels/cpu/simd/isa_kernels.h"

namespace moed::fast {

// What every operation works with; all outlive it.
struct Context {
  const IsaKernels& isa;
  DType act;
  ThreadPool& pool;
  Workspace& workspace;
};

// The grain that gives every thread a few ranges, each of them worth a thread's waking.
// `item_work`: about the nanoseconds of one item.
int64_t Grain(const ThreadPool& pool, int64_t num_items, int64_t item_work);

void Embed(const Context& context, const EmbedArgs& args);
void RmsNorm(const Context& context, const RmsNormArgs& args);
void Linear(const Context& context, const LinearArgs& args);
void RotaryCacheWrite(const Context& context, const RotaryCacheWriteArgs& args);
void PagedAttention(const Context& context, const PagedAttentionArgs& args);
void Route(const Context& context, const RouteArgs& args);
void GatherRows(const Context& context, const GatherRowsArgs& args);
void ExpertFfn(const Context& context, const ExpertFfnArgs& args);
void Combine(const Context& context, const CombineArgs& args);
void Sample(const Context& context, const SampleArgs& args);
void TokenLogprobs(const Context& context, const TokenLogprobsArgs& args);

}  // namespace moed::fast
