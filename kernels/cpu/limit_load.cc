#include <array>
#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/index_ops.h"

namespace moed {

void LimitLoad(const LimitLoadArgs& args) {
  const int64_t num_tokens = args.topk_ids.dim(0);
  const int64_t top_k = args.topk_ids.dim(1);
  if (args.topk_ids.empty()) return;
  int32_t* topk_ids = args.topk_ids.data<int32_t>();
  int32_t* dropped = args.dropped.data<int32_t>();
  // Experts do not share places: each pass over the pairs serves as many as are counted on the
  // stack.
  constexpr int64_t kExpertsOfAPass = 256;
  for (int64_t first = 0; first < args.num_experts; first += kExpertsOfAPass) {
    std::array<int64_t, kExpertsOfAPass> served{};
    for (int64_t c = 0; c < top_k; ++c) {
      for (int64_t t = 0; t < num_tokens; ++t) {
        int32_t& expert = topk_ids[t * top_k + c];
        MOED_CHECK(expert < args.num_experts, "LimitLoad: an expert id is out of range");
        if (expert < first || expert >= first + kExpertsOfAPass) continue;
        if (served[static_cast<size_t>(expert - first)]++ < args.capacity) continue;
        expert = -1;
        ++dropped[t];
      }
    }
  }
}

}  // namespace moed
