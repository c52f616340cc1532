#include "runtime/output/stop_matcher.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

struct Outcome {
  std::string text;
  int match = StopMatcher::kNoMatch;
};

Outcome FeedAll(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopMatcher matcher(stops);
  Outcome outcome;
  for (const std::string& piece : pieces) {
    outcome.match = matcher.Feed(piece, /*may_match=*/true, &outcome.text);
    if (outcome.match != StopMatcher::kNoMatch) return outcome;
  }
  matcher.Flush(&outcome.text);
  return outcome;
}

struct Case {
  std::vector<std::string> stops;
  std::string pieces;  // separated by '|'
  std::string text;
  int match;
};

TEST(StopMatcherTest, MatchesByTheTable) {
  const int none = StopMatcher::kNoMatch;
  const std::vector<Case> cases = {
      {{}, "ab|c", "abc", none},
      {{"STOP"}, "say STOP now", "say ", 0},
      {{"STOP"}, "say ST|OP now", "say ", 0},
      {{"STOP"}, "S|T|O|P", "", 0},
      {{"STOP"}, "ST|OUT STO", "STOUT STO", none},
      // A failed beginning may hold the beginning of another try.
      {{"aab"}, "aa|a|b", "a", 0},
      {{"abab"}, "aba|cab|ab", "abac", 0},
      {{"\n\nUser:"}, "Hi\n|\n|\nUser:|x", "Hi\n", 0},
      // The one that is complete first wins, also where a longer one began earlier.
      {{"abcd", "bc"}, "abcd", "a", 1},
      {{"abcd", "x"}, "ab|x", "ab", 1},
      // Of several that end together the longest, of equal ones the first listed.
      {{"c", "abc", "bc"}, "xabc", "x", 1},
      {{"bc", "bc"}, "abc", "a", 0},
      // Whole code points are held and let through.
      {{"\xC3\xA9t"}, "\xC3\xA9|\xC3\xA9|t", "\xC3\xA9", 0},
      {{""}, "abc", "abc", none},
  };
  for (const Case& c : cases) {
    const std::vector<std::string> pieces = absl::StrSplit(c.pieces, '|');
    const Outcome outcome = FeedAll(c.stops, pieces);
    EXPECT_EQ(outcome.text, c.text) << absl::StrJoin(c.stops, ",") << " in " << c.pieces;
    EXPECT_EQ(outcome.match, c.match) << absl::StrJoin(c.stops, ",") << " in " << c.pieces;
  }
}

TEST(StopMatcherTest, HoldsBackOnlyWhatMayBeginAMatch) {
  StopMatcher matcher({"STOP", "\n\n"});
  std::string out;
  EXPECT_EQ(matcher.Feed("go ST", true, &out), StopMatcher::kNoMatch);
  EXPECT_EQ(out, "go ");
  EXPECT_EQ(matcher.held_bytes(), 2u);
  EXPECT_EQ(matcher.Feed("\n", true, &out), StopMatcher::kNoMatch);
  EXPECT_EQ(out, "go ST");
  EXPECT_EQ(matcher.Feed("x", true, &out), StopMatcher::kNoMatch);
  EXPECT_EQ(out, "go ST\nx");
  EXPECT_EQ(matcher.held_bytes(), 0u);
}

TEST(StopMatcherTest, AMatchThatMayNotCountIsPassedOverAndOneThatEndsLaterCounts) {
  StopMatcher matcher({"ab", "abcd"});
  std::string out;
  EXPECT_EQ(matcher.Feed("ab", false, &out), StopMatcher::kNoMatch);
  EXPECT_EQ(matcher.Feed("c", true, &out), StopMatcher::kNoMatch)
      << "ab ended in the text that may not match";
  EXPECT_EQ(out, "");
  EXPECT_EQ(matcher.Feed("d", true, &out), 1);
  EXPECT_EQ(out, "");
}

TEST(StopMatcherTest, AMatchThatMayNotCountMayBeginOneThatDoes) {
  StopMatcher matcher({"abab"});
  std::string out;
  EXPECT_EQ(matcher.Feed("abab", false, &out), StopMatcher::kNoMatch);
  EXPECT_EQ(out, "ab");
  EXPECT_EQ(matcher.Feed("ab", true, &out), 0);
  EXPECT_EQ(out, "ab");
}

// The definition, byte by byte, over the whole text.
Outcome Oracle(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    int best = StopMatcher::kNoMatch;
    for (size_t i = 0; i < stops.size(); ++i) {
      const std::string& stop = stops[i];
      if (stop.size() > end || text.compare(end - stop.size(), stop.size(), stop) != 0) continue;
      if (best < 0 || stop.size() > stops[best].size()) best = static_cast<int>(i);
    }
    if (best >= 0) return {text.substr(0, end - stops[best].size()), best};
  }
  return {text, StopMatcher::kNoMatch};
}

TEST(StopMatcherTest, TheCutOfTheTextNeverMatters) {
  for (uint64_t seed = 1; seed <= 5000; ++seed) {
    std::mt19937_64 random(seed);
    const auto between = [&](int low, int high) {
      return std::uniform_int_distribution<int>(low, high)(random);
    };
    const auto word = [&](int low, int high) {
      std::string text;
      for (int i = between(low, high); i > 0; --i) text.push_back("abc"[between(0, 2)]);
      return text;
    };
    std::vector<std::string> stops;
    size_t longest = 0;
    for (int i = between(1, 4); i > 0; --i) {
      stops.push_back(word(1, 7));
      longest = std::max(longest, stops.back().size());
    }
    const std::string text = word(0, 60);
    const Outcome expected = Oracle(stops, text);

    StopMatcher matcher(stops);
    Outcome got;
    size_t position = 0;
    while (position < text.size() && got.match == StopMatcher::kNoMatch) {
      const std::string piece = text.substr(position, between(0, 9));
      position += piece.size();
      got.match = matcher.Feed(piece, true, &got.text);
      ASSERT_LT(matcher.held_bytes(), longest) << "seed " << seed;
      ASSERT_EQ(expected.text.compare(0, got.text.size(), got.text), 0)
          << "seed " << seed << ": let through " << got.text << " of " << expected.text;
    }
    if (got.match == StopMatcher::kNoMatch) matcher.Flush(&got.text);
    ASSERT_EQ(got.text, expected.text) << "seed " << seed;
    ASSERT_EQ(got.match, expected.match) << "seed " << seed;
  }
}

}  // namespace
}  // namespace moed
