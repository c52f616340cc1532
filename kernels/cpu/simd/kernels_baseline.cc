#include "kernels/cpu/simd/kernel_table.h"

namespace moed {

const IsaKernels& BaselineKernels() {
  static constexpr IsaKernels kTable = MakeKernelTable("baseline");
  return kTable;
}

int64_t AttentionScratchFloats(int64_t rows, int64_t head_dim) {
  const int64_t padded_head_dim = head_dim + 16;
  return rows * (2 * padded_head_dim + kAttentionTile + 2) + 2 * kAttentionTile * padded_head_dim +
         7 * 16;
}

}  // namespace moed
