#include "kernels/cuda/routing_ops.h"

#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "kernels/cuda/count_choices.h"
#include "kernels/cuda/group_by_expert.h"
#include "kernels/cuda/index_static_slots.h"
#include "kernels/cuda/limit_load.h"
#include "kernels/cuda/plan_send.h"
#include "kernels/cuda/route.h"

namespace moed::cuda {
namespace {

// Places of pairs are int32 by contract, and so are counted.
void CheckPairs(const ConstTensorView& topk_ids) {
  MOED_CHECK(topk_ids.num_elements() <= std::numeric_limits<int32_t>::max(),
             "there are more pairs than places for them");
}

}  // namespace

void Route(CudaStream& stream, const RouteArgs& args) {
  if (args.topk_ids.empty()) return;
  const int64_t num_experts = args.weight.dim(0);
  if (num_experts > kMaxRoutedExperts) {
    stream.Note(absl::UnimplementedError(absl::StrCat(
        "Route: ", num_experts, " experts; the CUDA kernel takes up to ", kMaxRoutedExperts)));
    return;
  }
  RouteParams params;
  params.x = args.x.raw();
  params.weight = args.weight.data<float>();
  params.num_choices = args.num_choices.rank() == 0 ? nullptr : args.num_choices.data<int32_t>();
  params.topk_ids = args.topk_ids.data<int32_t>();
  params.topk_weights = args.topk_weights.data<float>();
  params.num_tokens = args.x.dim(0);
  params.hidden = args.x.dim(1);
  params.num_experts = static_cast<int>(num_experts);
  params.top_k = static_cast<int>(args.topk_ids.dim(1));
  params.act = args.x.dtype();
  stream.Note(LaunchRoute(stream.context(), params), "Route");
}

void CountChoices(CudaStream& stream, const CountChoicesArgs& args) {
  if (args.topk_ids.empty() || args.counts.empty()) return;
  CheckPairs(args.topk_ids);
  CountChoicesParams params;
  params.topk_ids = args.topk_ids.data<int32_t>();
  params.counts = args.counts.data<int64_t>();
  params.num_pairs = args.topk_ids.num_elements();
  params.num_experts = args.counts.dim(0);
  stream.Note(LaunchCountChoices(stream.context(), params), "CountChoices");
}

void LimitLoad(CudaStream& stream, const LimitLoadArgs& args) {
  const int64_t num_pairs = args.topk_ids.num_elements();
  // Nothing can be dropped where one expert may have all.
  if (args.topk_ids.empty() || args.num_experts == 0 || args.capacity >= num_pairs) return;
  CheckPairs(args.topk_ids);
  LimitLoadParams params;
  params.topk_ids = args.topk_ids.data<int32_t>();
  params.dropped = args.dropped.data<int32_t>();
  params.num_tokens = args.topk_ids.dim(0);
  params.top_k = args.topk_ids.dim(1);
  params.num_experts = args.num_experts;
  params.capacity = static_cast<int32_t>(args.capacity);
  stream.Note(LaunchLimitLoad(stream.context(), params), "LimitLoad");
}

void PlanSend(CudaStream& stream, const PlanSendArgs& args) {
  if (args.send_counts.empty()) return;
  CheckPairs(args.topk_ids);
  PlanSendParams params;
  params.topk_ids = args.topk_ids.data<int32_t>();
  params.rank_of_expert = args.rank_of_expert.data<int32_t>();
  params.send_row_index = args.send_row_index.data<int32_t>();
  params.send_counts = args.send_counts.data<int32_t>();
  params.reply_counts = args.reply_counts.data<int32_t>();
  params.contribution_index = args.contribution_index.data<int32_t>();
  params.num_tokens = args.topk_ids.dim(0);
  params.top_k = args.topk_ids.dim(1);
  params.num_ranks = args.send_counts.dim(0);
  stream.Note(LaunchPlanSend(stream.context(), params), "PlanSend");
}

void IndexStaticSlots(CudaStream& stream, const IndexStaticSlotsArgs& args) {
  if (args.topk_ids.empty()) return;
  CheckPairs(args.topk_ids);
  IndexStaticSlotsParams params;
  params.topk_ids = args.topk_ids.data<int32_t>();
  params.rank_of_expert = args.rank_of_expert.data<int32_t>();
  params.contribution_index = args.contribution_index.data<int32_t>();
  params.num_tokens = args.topk_ids.dim(0);
  params.top_k = args.topk_ids.dim(1);
  params.padded_rows = args.padded_rows;
  params.slots_per_row = args.slots_per_row;
  stream.Note(LaunchIndexStaticSlots(stream.context(), params), "IndexStaticSlots");
}

void GroupByExpert(CudaStream& stream, const GroupByExpertArgs& args) {
  CheckPairs(args.topk_ids);
  GroupByExpertParams params;
  params.topk_ids = args.topk_ids.data<int32_t>();
  params.local_expert_of = args.local_expert_of.data<int32_t>();
  params.expert_offsets = args.expert_offsets.data<int32_t>();
  params.row_index = args.row_index.data<int32_t>();
  params.out_index = args.out_index.data<int32_t>();
  params.num_rows = args.topk_ids.dim(0);
  params.top_k = args.topk_ids.dim(1);
  params.num_local_experts = args.expert_offsets.dim(0) - 1;
  params.slots_per_row = args.slots_per_row;
  stream.Note(LaunchGroupByExpert(stream.context(), params), "GroupByExpert");
}

}  // namespace moed::cuda
