// Pieces that tables are drawn with.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace moed {

// What the output can show.
struct TextStyle {
  bool color = false;
  int columns = 0;  // 0: no limit
};

// `text` in one of the 16 colours of terminals ("32": green), as it is without `color`.
std::string Colored(absl::string_view text, absl::string_view ansi_color, const TextStyle& style);

// A stretch of a bar.
struct BarPart {
  double fraction = 0;  // of the whole bar
  const char* glyph = "";
  const char* ansi_color = "";  // empty: none
};

// `width` glyphs: the parts from the left, then "░". Parts beyond the whole are cut off; one that
// is not zero is shown.
std::string Bar(absl::Span<const BarPart> parts, int width, const TextStyle& style);

// "0", "999", "12.3k", "4.56M": at most five letters up to 999G.
std::string ShortCount(uint64_t count);
// "17 B", "1.20 GiB".
std::string ShortBytes(uint64_t bytes);

}  // namespace moed
