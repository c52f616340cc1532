#include "client/live_view.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(LiveViewTest, OnlyTheFirstFrameClearsTheTerminal) {
  EXPECT_EQ(TerminalFrame("a\nbc\n", /*first=*/true, 24),
            "\033[2J\033[H\033[?7la\033[K\nbc\033[K\n\033[J\033[?7h");
  EXPECT_THAT(TerminalFrame("a\n", /*first=*/false, 24), StartsWith("\033[H\033[?7la\033[K\n"));
}

TEST(LiveViewTest, CutsOffWhatTheTerminalDoesNotHold) {
  EXPECT_THAT(TerminalFrame("1\n2\n3\n", false, 4), Not(HasSubstr("too low")));
  const std::string cut = TerminalFrame("1\n2\n3\n4\n", false, 4);
  EXPECT_THAT(cut, HasSubstr("2\033[K\n... (the window is too low"));
  EXPECT_THAT(cut, Not(HasSubstr("3")));
  EXPECT_THAT(TerminalFrame("1\n2\n", false, 1), EndsWith("more)\033[K\n\033[J\033[?7h"));
}

}  // namespace
}  // namespace moed
