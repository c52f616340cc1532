#include "kernels/core/float_types.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace moed {
namespace {

TEST(BFloat16Test, RoundsToNearestTiesToEven) {
  EXPECT_EQ(ToBFloat16(1.0F).bits, 0x3f80);
  EXPECT_EQ(ToBFloat16(1.0F + 0x1p-8F).bits, 0x3f80);             // tie, down to even
  EXPECT_EQ(ToBFloat16(1.0F + 3 * 0x1p-8F).bits, 0x3f82);         // tie, up to even
  EXPECT_EQ(ToBFloat16(1.0F + 0x1p-8F + 0x1p-20F).bits, 0x3f81);  // above the tie
  EXPECT_EQ(ToBFloat16(std::numeric_limits<float>::max()).bits, 0x7f80);
  EXPECT_EQ(ToBFloat16(-0.0F).bits, 0x8000);
}

TEST(BFloat16Test, EveryValueSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const BFloat16 value{static_cast<uint16_t>(bits)};
    const float wide = ToFloat(value);
    if (std::isnan(wide)) {
      ASSERT_TRUE(std::isnan(ToFloat(ToBFloat16(wide)))) << bits;
    } else {
      ASSERT_EQ(ToBFloat16(wide).bits, bits);
    }
  }
}

TEST(Float16Test, EveryValueIsExact) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const int exponent = static_cast<int>((bits >> 10) & 0x1f);
    const int fraction = static_cast<int>(bits & 0x3ff);
    const double sign = (bits & 0x8000) != 0 ? -1 : 1;
    const float got = ToFloat(Float16{static_cast<uint16_t>(bits)});
    if (exponent == 31) {
      ASSERT_EQ(std::isnan(got), fraction != 0) << bits;
      if (fraction == 0) {
        ASSERT_EQ(static_cast<double>(got), sign * INFINITY) << bits;
      }
      continue;
    }
    const double want =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    ASSERT_EQ(static_cast<double>(got), sign * want) << bits;
  }
}

}  // namespace
}  // namespace moed
