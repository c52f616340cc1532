#include "server/app/option_value.h"

#include <cstdint>
#include <limits>

#include "gtest/gtest.h"

namespace moed {
namespace {

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

TEST(OptionValueTest, Sizes) {
  EXPECT_EQ(*ParseSize("4GiB", 1, kMost), int64_t{4} << 30);
  EXPECT_EQ(*ParseSize("4 gb", 1, kMost), int64_t{4} << 30);
  EXPECT_EQ(*ParseSize("4g", 1, kMost), int64_t{4} << 30);
  EXPECT_EQ(*ParseSize("12", 1, kMost), 12);
  EXPECT_EQ(*ParseSize("12B", 1, kMost), 12);
  for (const char* bad : {"", "GiB", "-1", "1.5GiB", "4 G B", "4GiBs", "4bib", "0x10", "8388608TiB",
                          "99999999999999999999"}) {
    EXPECT_FALSE(ParseSize(bad, 0, kMost).ok()) << bad;
  }
  EXPECT_FALSE(ParseSize("0", 1, kMost).ok());
  EXPECT_FALSE(ParseSize("2KiB", 1, 1024).ok());
  EXPECT_EQ(SizeText(int64_t{4} << 30), "4GiB");
  EXPECT_EQ(SizeText(1536), "1536");
  EXPECT_EQ(*ParseSize(SizeText(int64_t{3} << 50), 1, kMost), int64_t{3} << 50);
}

TEST(OptionValueTest, WholeNumbers) {
  EXPECT_EQ(*ParseInteger("7", 1, 7), 7);
  EXPECT_EQ(*ParseInteger("010", 1, 99), 10);  // decimal, whatever it begins with
  for (const char* bad : {"", "0", "8", "1.0", "0x3", "3 4", "9223372036854775808"}) {
    EXPECT_FALSE(ParseInteger(bad, 1, 7).ok()) << bad;
  }
}

TEST(OptionValueTest, Numbers) {
  EXPECT_EQ(*ParseNumber("1e3", 0, 1000), 1000);
  for (const char* bad : {"", "nan", "inf", "-0.1", "1001", "1,5"}) {
    EXPECT_FALSE(ParseNumber(bad, 0, 1000).ok()) << bad;
  }
  EXPECT_EQ(NumberText(0.1), "0.1");
  EXPECT_EQ(NumberText(30), "30");
}

TEST(OptionValueTest, Booleans) {
  for (const char* text : {"true", "Yes", "1", "ON"}) EXPECT_TRUE(*ParseBoolean(text)) << text;
  for (const char* text : {"false", "No", "0", "off"}) EXPECT_FALSE(*ParseBoolean(text)) << text;
  EXPECT_FALSE(ParseBoolean("2").ok());
  EXPECT_FALSE(ParseBoolean("").ok());
}

TEST(OptionValueTest, Addresses) {
  for (const char* good : {"localhost:0", "0.0.0.0:65535", "[::]:9000", "a-b.example:1"}) {
    EXPECT_TRUE(CheckAddress(good).ok()) << good;
  }
  for (const char* bad : {"", ":", ":1", "h", "h:", "h:-1", "h:65536", "::1:5", "[]:5", "h h:5",
                          "http://h:5", "u@h:5"}) {
    EXPECT_FALSE(CheckAddress(bad).ok()) << bad;
  }
}

TEST(OptionValueTest, TomlStringsHaveNoControlCharacters) {
  EXPECT_EQ(TomlString("a\"b\\c\n\x7f"), "\"a\\\"b\\\\c\\n\\u007F\"");
  EXPECT_EQ(TomlString("\xff"), "\"\xEF\xBF\xBD\"");
}

}  // namespace
}  // namespace moed
