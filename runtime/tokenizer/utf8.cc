#include "runtime/tokenizer/utf8.h"

#include <cstdint>

namespace moed {
namespace {

// What must follow a lead byte: how many bytes the code point has in all, and the range of its
// second byte (the later ones are 80..BF). Unicode standard, table 3-7.
struct Lead {
  size_t length = 0;
  uint8_t second_min = 0x80;
  uint8_t second_max = 0xBF;
};

Lead ReadLead(uint8_t byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xC2) return {0};
  if (byte < 0xE0) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

// How many bytes at the start of `text` fit the code point that `lead` announces, at most its
// length.
size_t CountFitting(absl::string_view text, const Lead& lead) {
  size_t count = 1;
  while (count < lead.length && count < text.size()) {
    const uint8_t byte = static_cast<uint8_t>(text[count]);
    const uint8_t min = count == 1 ? lead.second_min : 0x80;
    const uint8_t max = count == 1 ? lead.second_max : 0xBF;
    if (byte < min || byte > max) break;
    ++count;
  }
  return count;
}

}  // namespace

size_t Utf8CodePointLength(absl::string_view text) {
  if (text.empty()) return 0;
  const Lead lead = ReadLead(static_cast<uint8_t>(text[0]));
  if (lead.length == 0) return 0;
  return CountFitting(text, lead) == lead.length ? lead.length : 0;
}

bool IsUtf8CodePointPrefix(absl::string_view text) {
  if (text.empty()) return false;
  const Lead lead = ReadLead(static_cast<uint8_t>(text[0]));
  return text.size() < lead.length && CountFitting(text, lead) == text.size();
}

bool IsValidUtf8(absl::string_view text) {
  while (!text.empty()) {
    const size_t length = Utf8CodePointLength(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

}  // namespace moed
