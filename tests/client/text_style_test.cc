#include "client/text_style.h"

#include <limits>

#include "gtest/gtest.h"

namespace moed {
namespace {

TEST(TextStyleTest, ABarIsAlwaysAsWideAsItIs) {
  EXPECT_EQ(Bar({}, 4, {}), "░░░░");
  const BarPart half[] = {{0.5, "#"}};
  EXPECT_EQ(Bar(half, 4, {}), "##░░");
  const BarPart more[] = {{0.75, "#"}, {0.5, "+"}, {0.5, "-"}};
  EXPECT_EQ(Bar(more, 4, {}), "###+");
  const BarPart odd[] = {{std::numeric_limits<double>::quiet_NaN(), "#"}, {-1, "+"}, {1, "-"}};
  EXPECT_EQ(Bar(odd, 4, {}), "----");
}

TEST(TextStyleTest, ABarShowsWhatIsLittle) {
  const BarPart little[] = {{0.001, "#"}, {0.001, "+"}};
  EXPECT_EQ(Bar(little, 4, {}), "#+░░");
}

TEST(TextStyleTest, ColoursOnlyWhereAsked) {
  const BarPart half[] = {{0.5, "#", "32"}};
  EXPECT_EQ(Bar(half, 4, {.color = true}), "\033[32m##\033[0m\033[90m░░\033[0m");
  EXPECT_EQ(Colored("x", "31", {}), "x");
  EXPECT_EQ(Colored("x", "31", {.color = true}), "\033[31mx\033[0m");
}

TEST(TextStyleTest, CountsHaveThreeFigures) {
  EXPECT_EQ(ShortCount(0), "0");
  EXPECT_EQ(ShortCount(999), "999");
  EXPECT_EQ(ShortCount(1000), "1.00k");
  EXPECT_EQ(ShortCount(12345), "12.3k");
  EXPECT_EQ(ShortCount(999499), "999k");
  EXPECT_EQ(ShortCount(999500), "1.00M");
  EXPECT_EQ(ShortCount(std::numeric_limits<uint64_t>::max()), "18.4E");
}

TEST(TextStyleTest, BytesAreInPowersOfTwo) {
  EXPECT_EQ(ShortBytes(1023), "1023 B");
  EXPECT_EQ(ShortBytes(1024), "1.00 KiB");
  EXPECT_EQ(ShortBytes(uint64_t{94} << 30), "94.0 GiB");
  EXPECT_EQ(ShortBytes((uint64_t{1} << 30) - 1), "1.00 GiB");
}

}  // namespace
}  // namespace moed
