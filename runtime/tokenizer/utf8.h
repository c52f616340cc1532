// UTF-8 as the Unicode standard's table 3-7 defines it: no overlong forms, no surrogates, nothing
// above U+10FFFF. Pure functions, safe from any thread.
#pragma once

#include <cstddef>

#include "absl/strings/string_view.h"

namespace moed {

// U+FFFD, what stands for a byte that belongs to no code point.
inline constexpr absl::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// True when all of `text` is well formed; the empty text is.
bool IsValidUtf8(absl::string_view text);

// Bytes of the well-formed code point that `text` starts with: 1 to 4, or 0 where it starts with
// none (also when empty or cut short).
size_t Utf8CodePointLength(absl::string_view text);

// True when `text` is not a whole code point but one that was cut short: one to three bytes that
// some further bytes would complete.
bool IsUtf8CodePointPrefix(absl::string_view text);

}  // namespace moed
