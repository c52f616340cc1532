// Finds stop strings in text that arrives in pieces.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace moed {

// Text is let through as soon as it can no longer be the beginning of a stop string; the rest is
// held back. The text may be cut into pieces anywhere, the result is the same: the stop string that
// is complete first wins; of several that end with the same byte the longest; of equal ones the
// first listed. Holds fewer bytes than the longest stop string has, and works in time linear in
// the text times the number of stop strings (Knuth, Morris and Pratt 1977). Where text and stop
// strings are whole code points, so is all that is let through.
class StopMatcher {
 public:
  static constexpr int kNoMatch = -1;

  // An empty stop string never matches. With `include_match` the stop string that matched is let
  // through as well.
  explicit StopMatcher(const std::vector<std::string>& stop_strings, bool include_match = false);

  // Appends to `out` what `text` lets through. Returns the index of the stop string that matched,
  // or kNoMatch. After a match the text before it (include_match: up to its end) has been let
  // through, the rest is dropped, and nothing may be fed any more. With `may_match` false, matches
  // that end in `text` do not count, while one that begins in it and ends later does.
  int Feed(absl::string_view text, bool may_match, std::string* out);

  // Lets through what is held back: the text has ended.
  void Flush(std::string* out);

  size_t held_bytes() const { return held_.size(); }

 private:
  struct Pattern {
    std::string text;
    std::vector<size_t> border;  // [size + 1] longest proper prefix that is also a suffix of
                                 // text[0, i)
    size_t matched = 0;          // longest prefix that is a suffix of the text fed so far
  };

  // Feeds one byte to every pattern. The pattern that is complete, or kNoMatch.
  int Advance(char byte);

  const bool include_match_;
  std::vector<Pattern> patterns_;
  std::string held_;
};

}  // namespace moed
