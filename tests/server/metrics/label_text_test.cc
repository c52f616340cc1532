#include "server/metrics/label_text.h"

#include <gtest/gtest.h>

#include <string>

#include "runtime/tokenizer/utf8.h"

namespace moed {
namespace {

TEST(SafeLabelTest, KeepsTextAndReplacesWhatIsNoCodePoint) {
  EXPECT_EQ(SafeLabel("mixtral-8x7b \xC3\xA9 \"x\"\n"), "mixtral-8x7b \xC3\xA9 \"x\"\n");
  EXPECT_EQ(SafeLabel("a\xFF\xC3"), "a\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(SafeLabelTest, CutsOffBetweenCodePoints) {
  const std::string label = SafeLabel(std::string(255, 'a') + "\xC3\xA9");
  EXPECT_EQ(label, std::string(255, 'a'));
  EXPECT_EQ(SafeLabel(std::string(254, 'a') + "\xC3\xA9").size(), 256);
  EXPECT_TRUE(IsValidUtf8(SafeLabel(std::string(300, '\xFF'))));
}

TEST(PaddedIndexTest, HasTheDigitsOfTheLargest) {
  EXPECT_EQ(PaddedIndex(7, 8), "7");
  EXPECT_EQ(PaddedIndex(7, 10), "7");
  EXPECT_EQ(PaddedIndex(7, 11), "07");
  EXPECT_EQ(PaddedIndex(31, 32), "31");
  EXPECT_EQ(PaddedIndex(0, 1000), "000");
  EXPECT_EQ(PaddedIndex(0, 1), "0");
}

TEST(ReasonLabelTest, IsInLowerCase) { EXPECT_EQ(ReasonLabel("QUEUE_FULL"), "queue_full"); }

}  // namespace
}  // namespace moed
