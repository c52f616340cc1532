#include "client/text_style.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace moed {
namespace {

// Three figures: "1.23", "12.3", "123".
std::string ThreeFigures(double value) {
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return absl::StrFormat("%.*f", decimals, value);
}

}  // namespace

std::string Colored(absl::string_view text, absl::string_view ansi_color, const TextStyle& style) {
  if (!style.color || ansi_color.empty()) return std::string(text);
  return absl::StrCat("\033[", ansi_color, "m", text, "\033[0m");
}

std::string Bar(absl::Span<const BarPart> parts, int width, const TextStyle& style) {
  std::string bar;
  double end = 0;
  int drawn = 0;
  for (const BarPart& part : parts) {
    const double fraction = std::isfinite(part.fraction) ? std::max(part.fraction, 0.0) : 0;
    end += fraction;
    int until = static_cast<int>(std::lround(std::min(end, 1.0) * width));
    if (fraction > 0) until = std::max(until, drawn + 1);
    until = std::clamp(until, drawn, width);
    std::string glyphs;
    for (; drawn < until; ++drawn) absl::StrAppend(&glyphs, part.glyph);
    if (!glyphs.empty()) absl::StrAppend(&bar, Colored(glyphs, part.ansi_color, style));
  }
  std::string rest;
  for (; drawn < width; ++drawn) absl::StrAppend(&rest, "░");
  return absl::StrCat(bar, rest.empty() ? "" : Colored(rest, "90", style));
}

std::string ShortCount(uint64_t count) {
  if (count < 1000) return absl::StrCat(count);
  auto value = static_cast<double>(count);
  const char* unit = "";
  for (const char* next : {"k", "M", "G", "T", "P", "E"}) {
    // What rounds up to 1000 belongs to the next unit.
    if (value < 999.5) break;
    value /= 1000;
    unit = next;
  }
  return absl::StrCat(ThreeFigures(value), unit);
}

std::string ShortBytes(uint64_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  auto value = static_cast<double>(bytes);
  const char* unit = "B";
  for (const char* next : {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}) {
    if (value < 1023.5) break;
    value /= 1024;
    unit = next;
  }
  return absl::StrCat(ThreeFigures(value), " ", unit);
}

}  // namespace moed
