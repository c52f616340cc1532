// What the CPU and the operating system offer, asked once.
#pragma once

namespace moed {

struct CpuFeatures {
  bool avx2_fma = false;     // AVX2 and FMA3
  bool avx512_bf16 = false;  // AVX-512 F, BW, DQ, VL and BF16
};

const CpuFeatures& GetCpuFeatures();

}  // namespace moed
