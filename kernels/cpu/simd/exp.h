// exp, alike in every lane and on every path of one instruction set.
#pragma once

#include "kernels/cpu/simd/vector.h"

namespace moed {
namespace {

// exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2: ln 2 in two parts (Cody and Waite),
// exp(r) by the Taylor polynomial of degree 7, whose remainder is below 6e-9. Exactly 1 at 0;
// below the smallest normal result 0; results above exp(88) stay exp(88); NaN stays NaN.
MOED_INLINE F32 Exp(F32 x) {
  constexpr float kLargest = 88.0F;
  constexpr float kSmallest = -87.3F;
  constexpr float kLog2E = 1.44269504F;
  constexpr float kLn2High = 0.693359375F;  // few bits: n * kLn2High is exact
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it leaves round(x) in the low bits

  const F32 capped = Select(x > Set(kLargest), Set(kLargest), x);
  const F32 clamped = Select(capped < Set(kSmallest), Set(kSmallest), capped);
  const F32 shifted = clamped * Set(kLog2E) + Set(kRound);
  const F32 n = shifted - Set(kRound);
  F32 r = MulAdd(n, Set(-kLn2High), clamped);
  r = MulAdd(n, Set(-kLn2Low), r);
  F32 p = Set(1.0F / 5040);
  p = MulAdd(p, r, Set(1.0F / 720));
  p = MulAdd(p, r, Set(1.0F / 120));
  p = MulAdd(p, r, Set(1.0F / 24));
  p = MulAdd(p, r, Set(1.0F / 6));
  p = MulAdd(p, r, Set(0.5F));
  p = MulAdd(p, r, Set(1.0F));
  p = MulAdd(p, r, Set(1.0F));
  // The low bits of `shifted` hold n: shifting them to the exponent's place adds n to 1.0's.
  const U32 two_to_n = (reinterpret_cast<U32>(shifted) << 23) + 0x3f800000u;
  const F32 result = p * reinterpret_cast<F32>(two_to_n);
  return Select(capped < Set(kSmallest), F32{}, result);
}

}  // namespace
}  // namespace moed
