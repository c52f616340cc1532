#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/index_ops.h"

namespace moed {

void IndexStaticSlots(const IndexStaticSlotsArgs& args) {
  const int64_t num_tokens = args.topk_ids.dim(0);
  const int64_t top_k = args.topk_ids.dim(1);
  if (num_tokens == 0 || top_k == 0) return;
  const int64_t num_experts = args.rank_of_expert.dim(0);
  const int32_t* topk_ids = args.topk_ids.data<int32_t>();
  const int32_t* rank_of_expert = args.rank_of_expert.data<int32_t>();
  int32_t* contribution_index = args.contribution_index.data<int32_t>();
  for (int64_t row = 0; row < num_tokens; ++row) {
    const int32_t* choices = topk_ids + row * top_k;
    for (int64_t c = 0; c < top_k; ++c) {
      int32_t& place = contribution_index[row * top_k + c];
      place = -1;
      if (choices[c] < 0) continue;
      MOED_CHECK(choices[c] < num_experts, "IndexStaticSlots: an expert id is out of range");
      const int32_t rank = rank_of_expert[choices[c]];
      int64_t slot = 0;
      for (int64_t earlier = 0; earlier < c; ++earlier) {
        if (choices[earlier] >= 0 && rank_of_expert[choices[earlier]] == rank) ++slot;
      }
      MOED_CHECK(slot < args.slots_per_row,
                 "IndexStaticSlots: a row has more choices on a rank than slots_per_row");
      place = static_cast<int32_t>((rank * args.padded_rows + row) * args.slots_per_row + slot);
    }
  }
}

}  // namespace moed
