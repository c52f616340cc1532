#include "runtime/output/stop_matcher.h"

#include <algorithm>

namespace moed {

StopMatcher::StopMatcher(const std::vector<std::string>& stop_strings, bool include_match)
    : include_match_(include_match) {
  for (const std::string& text : stop_strings) {
    Pattern pattern;
    pattern.text = text;
    pattern.border.assign(text.size() + 1, 0);
    for (size_t i = 1; i < text.size(); ++i) {
      size_t length = pattern.border[i];
      while (length > 0 && text[length] != text[i]) length = pattern.border[length];
      pattern.border[i + 1] = text[length] == text[i] ? length + 1 : 0;
    }
    patterns_.push_back(std::move(pattern));
  }
}

int StopMatcher::Advance(char byte) {
  int complete = kNoMatch;
  for (size_t i = 0; i < patterns_.size(); ++i) {
    Pattern& pattern = patterns_[i];
    const std::string& text = pattern.text;
    if (text.empty()) continue;
    size_t& matched = pattern.matched;
    if (matched == text.size()) matched = pattern.border[matched];
    while (matched > 0 && text[matched] != byte) matched = pattern.border[matched];
    if (text[matched] == byte) ++matched;
    if (matched < text.size()) continue;
    if (complete == kNoMatch || text.size() > patterns_[complete].text.size()) {
      complete = static_cast<int>(i);
    }
  }
  return complete;
}

int StopMatcher::Feed(absl::string_view text, bool may_match, std::string* out) {
  for (const char byte : text) {
    const int complete = Advance(byte);
    held_.push_back(byte);
    if (complete != kNoMatch && may_match) {
      if (!include_match_) held_.resize(held_.size() - patterns_[complete].text.size());
      Flush(out);
      return complete;
    }
  }
  size_t num_held = 0;
  for (const Pattern& pattern : patterns_) {
    const bool is_complete = pattern.matched == pattern.text.size();
    num_held = std::max(num_held, is_complete ? pattern.border[pattern.matched] : pattern.matched);
  }
  const size_t num_released = held_.size() - num_held;
  out->append(held_, 0, num_released);
  held_.erase(0, num_released);
  return kNoMatch;
}

void StopMatcher::Flush(std::string* out) {
  out->append(held_);
  held_.clear();
}

}  // namespace moed
