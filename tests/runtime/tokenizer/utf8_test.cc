#include "runtime/tokenizer/utf8.h"

#include <cstdint>
#include <string>

#include "gtest/gtest.h"

namespace moed {
namespace {

std::string EncodeCodePoint(uint32_t code_point) {
  const auto tail = [&](int shift) { return static_cast<char>(0x80 | (code_point >> shift & 63)); };
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  if (code_point < 0x800) return {static_cast<char>(0xC0 | code_point >> 6), tail(0)};
  if (code_point < 0x10000) return {static_cast<char>(0xE0 | code_point >> 12), tail(6), tail(0)};
  return {static_cast<char>(0xF0 | code_point >> 18), tail(12), tail(6), tail(0)};
}

// By arithmetic on the decoded number, where the library compares bytes with a table.
bool IsOneCodePoint(const std::string& bytes) {
  const uint8_t lead = static_cast<uint8_t>(bytes[0]);
  const size_t length = lead < 0x80 ? 1 : lead / 32 == 6 ? 2 : lead / 16 == 14 ? 3 : 4;
  if (length != bytes.size() || lead >= 0xF8 || (lead >= 0x80 && lead < 0xC0)) return false;
  uint32_t value = length == 1 ? lead : lead & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((bytes[i] & 0xC0) != 0x80) return false;
    value = value << 6 | (bytes[i] & 0x3F);
  }
  const uint32_t minimum[] = {0, 0x80, 0x800, 0x10000};
  return value >= minimum[length - 1] && value <= 0x10FFFF && (value < 0xD800 || value > 0xDFFF);
}

TEST(Utf8Test, EveryCodePointIsValidAndItsPrefixesArePrefixes) {
  for (uint32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    const std::string bytes = EncodeCodePoint(code_point);
    if (code_point >= 0xD800 && code_point <= 0xDFFF) {
      ASSERT_EQ(Utf8CodePointLength(bytes), 0u) << std::hex << code_point;
      continue;
    }
    ASSERT_EQ(Utf8CodePointLength(bytes), bytes.size()) << std::hex << code_point;
    ASSERT_FALSE(IsUtf8CodePointPrefix(bytes)) << std::hex << code_point;
    for (size_t length = 1; length < bytes.size(); ++length) {
      const absl::string_view cut = absl::string_view(bytes).substr(0, length);
      ASSERT_EQ(Utf8CodePointLength(cut), 0u) << std::hex << code_point;
      ASSERT_TRUE(IsUtf8CodePointPrefix(cut)) << std::hex << code_point << " cut at " << length;
    }
  }
}

TEST(Utf8Test, EveryShortByteStringIsJudgedAsByArithmetic) {
  const uint8_t interesting[] = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xF4, 0xFF};
  for (int first = 0; first < 256; ++first) {
    const std::string one = {static_cast<char>(first)};
    ASSERT_EQ(Utf8CodePointLength(one) == 1, IsOneCodePoint(one)) << first;
    for (int second = 0; second < 256; ++second) {
      const std::string two = one + static_cast<char>(second);
      ASSERT_EQ(Utf8CodePointLength(two) == 2, IsOneCodePoint(two)) << first << " " << second;
      for (const uint8_t third : interesting) {
        const std::string three = two + static_cast<char>(third);
        ASSERT_EQ(Utf8CodePointLength(three) == 3, IsOneCodePoint(three))
            << first << " " << second << " " << int{third};
        for (const uint8_t fourth : interesting) {
          const std::string four = three + static_cast<char>(fourth);
          ASSERT_EQ(Utf8CodePointLength(four) == 4, IsOneCodePoint(four))
              << first << " " << second << " " << int{third} << " " << int{fourth};
        }
      }
    }
  }
}

TEST(Utf8Test, APrefixIsWhatSomeBytesComplete) {
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string two = {static_cast<char>(first), static_cast<char>(second)};
      const bool completable = IsOneCodePoint(two + "\x80") || IsOneCodePoint(two + "\x80\x80");
      ASSERT_EQ(IsUtf8CodePointPrefix(two), completable) << first << " " << second;
    }
  }
}

TEST(Utf8Test, TextIsValidWhenEveryPartIs) {
  EXPECT_TRUE(IsValidUtf8(""));
  EXPECT_TRUE(IsValidUtf8("a\xC3\xA9\xE6\x97\xA5\xF0\x9F\x98\x80"));
  EXPECT_TRUE(IsValidUtf8(absl::string_view("a\0b", 3)));
  EXPECT_FALSE(IsValidUtf8("a\xE6\x97"));
  EXPECT_FALSE(IsValidUtf8("\xE6\x97 a"));
  EXPECT_FALSE(IsValidUtf8("\xC0\x80"));
  EXPECT_FALSE(IsValidUtf8("ok\xFF"));
}

}  // namespace
}  // namespace moed
