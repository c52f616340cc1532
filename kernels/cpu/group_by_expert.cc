#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/index_ops.h"

namespace moed {

// A counting sort whose cursors are expert_offsets itself: after the fill every offset stands at
// its expert's end, one place further than it began.
void GroupByExpert(const GroupByExpertArgs& args) {
  const int64_t num_rows = args.topk_ids.dim(0);
  const int64_t top_k = args.topk_ids.dim(1);
  const int64_t num_experts = args.local_expert_of.dim(0);
  const int64_t num_local = args.expert_offsets.dim(0) - 1;
  int32_t* offsets = args.expert_offsets.data<int32_t>();
  for (int64_t e = 0; e <= num_local; ++e) offsets[e] = 0;
  if (num_rows == 0 || top_k == 0 || num_local == 0) return;
  const int32_t* topk_ids = args.topk_ids.data<int32_t>();
  const int32_t* local_expert_of = args.local_expert_of.data<int32_t>();
  int32_t* row_index = args.row_index.data<int32_t>();
  int32_t* out_index = args.out_index.data<int32_t>();

  const auto local_expert = [&](int64_t pair) -> int32_t {
    const int32_t expert = topk_ids[pair];
    if (expert < 0) return -1;
    MOED_CHECK(expert < num_experts, "GroupByExpert: an expert id is out of range");
    MOED_CHECK(local_expert_of[expert] < num_local,
               "GroupByExpert: a local expert id is out of range");
    return local_expert_of[expert];
  };
  for (int64_t pair = 0; pair < num_rows * top_k; ++pair) {
    const int32_t e = local_expert(pair);
    if (e >= 0) ++offsets[e + 1];
  }
  for (int64_t e = 0; e < num_local; ++e) offsets[e + 1] += offsets[e];
  MOED_CHECK(offsets[num_local] <= args.row_index.dim(0),
             "GroupByExpert: a row names one expert twice");
  int64_t compact = 0;
  for (int64_t row = 0; row < num_rows; ++row) {
    int64_t local_choice = 0;
    for (int64_t c = 0; c < top_k; ++c) {
      const int32_t e = local_expert(row * top_k + c);
      if (e < 0) continue;
      MOED_CHECK(args.slots_per_row == 0 || local_choice < args.slots_per_row,
                 "GroupByExpert: a row has more local choices than slots_per_row");
      const int32_t place = offsets[e]++;
      row_index[place] = static_cast<int32_t>(row);
      out_index[place] = static_cast<int32_t>(
          args.slots_per_row == 0 ? compact : row * args.slots_per_row + local_choice);
      ++local_choice;
      ++compact;
    }
  }
  for (int64_t e = num_local; e > 0; --e) offsets[e] = offsets[e - 1];
  offsets[0] = 0;
}

}  // namespace moed
