#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/index_ops.h"

namespace moed {

void CountChoices(const CountChoicesArgs& args) {
  const int64_t num_pairs = args.topk_ids.num_elements();
  if (num_pairs == 0) return;
  const int64_t num_experts = args.counts.dim(0);
  const int32_t* topk_ids = args.topk_ids.data<int32_t>();
  int64_t* counts = args.counts.data<int64_t>();
  for (int64_t pair = 0; pair < num_pairs; ++pair) {
    const int32_t expert = topk_ids[pair];
    if (expert < 0) continue;
    MOED_CHECK(expert < num_experts, "CountChoices: an expert id is out of range");
    ++counts[expert];
  }
}

}  // namespace moed
