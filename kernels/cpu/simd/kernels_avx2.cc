// Compiled with AVX2 and FMA.
#include "kernels/cpu/simd/kernel_table.h"

namespace moed {

const IsaKernels& Avx2Kernels() {
  static constexpr IsaKernels kTable = MakeKernelTable("AVX2");
  return kTable;
}

}  // namespace moed
