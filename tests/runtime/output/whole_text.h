// The text of a continuation computed from all its tokens at once, in plain loops.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/schedule/request.h"
#include "tests/support/tiny_tokenizer.h"

namespace moed {

// Strict UTF-8 (RFC 3629), by the arithmetic of the code point.
inline bool IsOneCodePoint(const std::string& bytes) {
  const auto lead = static_cast<unsigned char>(bytes[0]);
  const size_t length = lead < 0x80 ? 1 : lead < 0xC0 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (length != bytes.size() || lead >= 0xF8) return false;
  uint32_t code_point = length == 1 ? lead : lead & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    if ((byte & 0xC0) != 0x80) return false;
    code_point = code_point << 6 | (byte & 0x3F);
  }
  const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  return code_point >= least[length] && code_point <= 0x10FFFF &&
         (code_point < 0xD800 || code_point > 0xDFFF);
}

// Whether more bytes can make a code point of it.
inline bool MayBecomeCodePoint(const std::string& bytes) {
  for (size_t missing = 1; missing + bytes.size() <= 4; ++missing) {
    for (const char second : {'\x80', '\x90', '\xA0'}) {
      if (IsOneCodePoint(bytes + std::string(1, second) + std::string(missing - 1, '\x80'))) {
        return true;
      }
    }
  }
  return false;
}

// A text, and how much of it is settled whatever follows: the rest are U+FFFDs for the bytes of a
// code point that is not complete.
struct WholeText {
  std::string text;
  size_t num_settled_bytes = 0;
};

inline const char kReplacement[] = "\xEF\xBF\xBD";

// A run of byte pieces: code points as far as there are any, U+FFFD for every other byte.
inline WholeText TextOfBytes(const std::string& bytes) {
  WholeText whole;
  for (size_t begin = 0; begin < bytes.size();) {
    size_t length = std::min<size_t>(4, bytes.size() - begin);
    while (length > 0 && !IsOneCodePoint(bytes.substr(begin, length))) --length;
    if (length == 0 && MayBecomeCodePoint(bytes.substr(begin))) {
      for (; begin < bytes.size(); ++begin) whole.text += kReplacement;
      return whole;
    }
    whole.text += length > 0 ? bytes.substr(begin, length) : kReplacement;
    whole.num_settled_bytes = whole.text.size();
    begin += std::max<size_t>(1, length);
  }
  return whole;
}

// With the tokenizer that MakeTinyTokenizer makes of `pieces`, which adds no space.
inline WholeText TextOfTokens(const std::vector<int32_t>& ids,
                              const std::vector<std::string>& pieces, bool skip_special_tokens) {
  WholeText whole;
  std::string run;
  for (const int32_t id : ids) {
    if (id >= TinyByte(0) && id < kTinyFirstPiece) {
      run.push_back(static_cast<char>(id - TinyByte(0)));
      continue;
    }
    whole.text += TextOfBytes(run).text;
    run.clear();
    const char* const controls[] = {" \xE2\x81\x87 ", "<s>", "</s>"};  // 0: <unk> is text
    if (id < 3) {
      if (id == 0 || !skip_special_tokens) whole.text += controls[id];
    } else if (id - kTinyFirstPiece < static_cast<int32_t>(pieces.size())) {
      std::string piece = pieces[id - kTinyFirstPiece];
      const std::string space = "\xE2\x96\x81";
      for (size_t at = piece.find(space); at != std::string::npos; at = piece.find(space)) {
        piece.replace(at, space.size(), " ");
      }
      whole.text += piece;
    } else {
      whole.text += kReplacement;
    }
  }
  const WholeText last_run = TextOfBytes(run);
  whole.num_settled_bytes = whole.text.size() + last_run.num_settled_bytes;
  whole.text += last_run.text;
  return whole;
}

// What a client sees of a continuation.
struct WholeChoice {
  std::string text;                 // without the prompt's
  std::string matched_stop_string;  // empty: none
  size_t num_tokens = 0;            // handed out
};

enum class WholeEnd : uint8_t { kLength, kStopToken, kTime };

// Of all tokens that are drawn. `end`: how it ends where no stop string is found.
inline WholeChoice WholeChoiceOf(const GenerationRequest& request, const std::vector<int32_t>& ids,
                                 WholeEnd end, const std::vector<std::string>& pieces) {
  const StoppingParams& stopping = request.stopping;
  std::vector<int32_t> shown = ids;
  if (end == WholeEnd::kStopToken && !stopping.include_stop) shown.pop_back();
  // The text after the first i tokens; after all of them what is not complete counts too.
  const auto text_after = [&](size_t num_tokens) {
    std::vector<int32_t> all = request.prompt_token_ids;
    all.insert(all.end(), shown.begin(), shown.begin() + std::min(num_tokens, shown.size()));
    WholeText whole = TextOfTokens(all, pieces, request.response.skip_special_tokens);
    return whole;
  };
  const size_t prompt_bytes = text_after(0).num_settled_bytes;
  WholeChoice choice;
  choice.text = text_after(ids.size()).text.substr(prompt_bytes);
  choice.num_tokens = ids.size();
  const auto min_tokens = static_cast<size_t>(stopping.min_tokens);
  if (ids.size() <= min_tokens) return choice;
  const size_t first_end = text_after(min_tokens).num_settled_bytes - prompt_bytes + 1;
  for (size_t stop_end = first_end; stop_end <= choice.text.size(); ++stop_end) {
    std::string& match = choice.matched_stop_string;
    for (const std::string& stop : stopping.stop_strings) {
      if (stop.size() > stop_end || stop.size() <= match.size()) continue;
      if (choice.text.substr(stop_end - stop.size(), stop.size()) == stop) match = stop;
    }
    if (match.empty()) continue;
    // The first token after which the stop string is there for good, or the last.
    size_t num_tokens = min_tokens + 1;
    while (num_tokens < ids.size() &&
           text_after(num_tokens).num_settled_bytes - prompt_bytes < stop_end) {
      ++num_tokens;
    }
    choice.num_tokens = num_tokens;
    choice.text.resize(stopping.include_stop ? stop_end : stop_end - match.size());
    break;
  }
  return choice;
}

}  // namespace moed
