#include "kernels/core/philox.h"

#include <set>

#include "gtest/gtest.h"

namespace moed {
namespace {

// The known-answer vectors that the authors publish for philox4x32-10 (Random123, kat_vectors).
TEST(PhiloxTest, GivesTheKnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Where seed, continuation and position stand, and how 53 bits are taken.
TEST(PhiloxTest, AUniformIsMadeOfTheFirstTwoWords) {
  const PhiloxCounter words =
      Philox4x32({0x89abcdef, 0x44556677, 0x00112233, 0}, {0x9abcdef0, 0x12345678});
  const double expected = (words[0] * 2097152.0 + words[1] / 2048) / 9007199254740992.0;
  EXPECT_EQ(UniformForToken(0x123456789abcdef0, 0x89abcdef, 0x0011223344556677), expected);
}

TEST(PhiloxTest, UniformsLieInTheUnitIntervalAndDependOnEveryArgument) {
  const double base = UniformForToken(1, 0, 5);
  EXPECT_NE(base, UniformForToken(2, 0, 5));
  EXPECT_NE(base, UniformForToken(1, 1, 5));
  EXPECT_NE(base, UniformForToken(1, 0, 6));
  EXPECT_NE(base, UniformForToken(1ULL | (1ULL << 32), 0, 5));
  EXPECT_NE(base, UniformForToken(1, 0, 5 + (int64_t{1} << 32)));
  std::set<double> seen;
  double sum = 0;
  constexpr int kDraws = 10000;
  for (int i = 0; i < kDraws; ++i) {
    const double u = UniformForToken(7, 0, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    seen.insert(u);
  }
  EXPECT_EQ(seen.size(), static_cast<size_t>(kDraws));
  EXPECT_NEAR(sum / kDraws, 0.5, 0.015);  // five standard deviations
}

}  // namespace
}  // namespace moed
