#include "server/metrics/label_text.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "runtime/tokenizer/utf8.h"

namespace moed {
namespace {

constexpr size_t kMaxLabelBytes = 256;

}  // namespace

std::string SafeLabel(absl::string_view text) {
  std::string label;
  while (!text.empty()) {
    const size_t length = Utf8CodePointLength(text);
    const absl::string_view piece = length > 0 ? text.substr(0, length) : kReplacementCharacter;
    if (label.size() + piece.size() > kMaxLabelBytes) break;
    label.append(piece.data(), piece.size());
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return label;
}

std::string PaddedIndex(int index, int count) {
  const size_t width = absl::StrCat(std::max(count - 1, 0)).size();
  const std::string digits = absl::StrCat(index);
  return std::string(width - std::min(width, digits.size()), '0') + digits;
}

std::string ReasonLabel(absl::string_view reason) {
  return SafeLabel(absl::AsciiStrToLower(reason));
}

}  // namespace moed
