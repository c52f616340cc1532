#include "server/app/toml_file.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ErrorOf(const std::string& text) {
  const absl::StatusOr<std::vector<TomlEntry>> entries = ParseToml(text);
  EXPECT_FALSE(entries.ok());
  return std::string(entries.status().message());
}

std::string Repeated(const std::string& part, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += part;
  return text;
}

TEST(TomlFileTest, ReadsKeysInTheOrderOfTheFileWithLines) {
  const std::vector<TomlEntry> entries =
      *ParseToml("z = 1\n\na = 'x' # comment\nm = [\n'p',\n'q']\n");
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_EQ(entries[0].key, "z");
  EXPECT_EQ(entries[0].kind, TomlKind::kInteger);
  EXPECT_EQ(entries[1].key, "a");
  EXPECT_EQ(entries[1].line, 3);
  EXPECT_EQ(entries[2].kind, TomlKind::kList);
  EXPECT_THAT(entries[2].values, ElementsAre("p", "q"));
}

TEST(TomlFileTest, ReadsNumbersToTheLastBit) {
  EXPECT_EQ((*ParseToml("a = 0.1"))[0].values[0], "0.1");
  EXPECT_EQ(std::stod((*ParseToml("a = 1234567.875"))[0].values[0]), 1234567.875);
}

TEST(TomlFileTest, AnEmptyFileHasNothing) {
  EXPECT_TRUE(ParseToml("")->empty());
  EXPECT_TRUE(ParseToml("# only a comment")->empty());
}

TEST(TomlFileTest, NamesTheLineOfWhatIsNoToml) {
  EXPECT_THAT(ErrorOf("a = 1\nb = \n"), HasSubstr("line 2"));
  EXPECT_THAT(ErrorOf("a = 1\na = 2\n"), HasSubstr("line 2"));
  EXPECT_THAT(ErrorOf("a = 1\nb = '\xff'\n"), HasSubstr("line 2"));
  EXPECT_THAT(ErrorOf(std::string("a = 1\n\0\n", 8)), HasSubstr("line 2"));
  EXPECT_THAT(ErrorOf("a = 99999999999999999999"), HasSubstr("line 1"));
  EXPECT_THAT(ErrorOf("a = 'open"), HasSubstr("line 1"));
}

TEST(TomlFileTest, NestingWithoutEndIsRefused) {
  ErrorOf("a = " + Repeated("[", 60000));
  ErrorOf("a = " + Repeated("{a=", 20000));
  EXPECT_THAT(ErrorOf(Repeated("a.", 30000) + "a = 1"), HasSubstr("dots"));
  ErrorOf("[" + Repeated("a.", 30000) + "a]");
  // As deep as is let through.
  EXPECT_TRUE(ParseToml(Repeated("a.", 4096) + "a = 1").ok());
}

TEST(TomlFileTest, AFileThatIsTooLargeIsRefused) {
  EXPECT_THAT(ErrorOf(std::string(kMaxTomlBytes + 1, '#')), HasSubstr("too large"));
  EXPECT_TRUE(ParseToml(std::string(kMaxTomlBytes, '#')).ok());
  EXPECT_FALSE(ReadTomlFile("/dev/zero").ok());
}

}  // namespace
}  // namespace moed
