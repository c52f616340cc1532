#include "runtime/checkpoint/json_document.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using testing::HasSubstr;

std::string ErrorOf(const std::string& text, const JsonLimits& limits = {}) {
  const auto document = ParseJsonObject(text, "some.json", limits);
  return document.ok() ? "no error" : std::string(document.status().message());
}

TEST(JsonDocument, BuildsNestedObjectsAndArrays) {
  const auto document =
      ParseJsonObject(R"({"a":[1,-2,[3.5,{"b":null}],true],"c":{"d":"e"}})", "f", {});
  ASSERT_TRUE(document.ok()) << document.status();
  EXPECT_EQ((*document)["a"][0], 1);
  EXPECT_EQ((*document)["a"][1], -2);
  EXPECT_EQ((*document)["a"][2][0], 3.5);
  EXPECT_TRUE((*document)["a"][2][1]["b"].is_null());
  EXPECT_EQ((*document)["a"][3], true);
  EXPECT_EQ((*document)["c"]["d"], "e");
}

TEST(JsonDocument, RefusesWhatIsNotOneObject) {
  for (const std::string text : {"", " ", "[]", "[{}]", "1", "\"text\"", "null", "{", "{}}", "{}{}",
                                 "{\"a\":}", "{\"a\":1,}", "{a:1}", "{'a':1}", "{} x", "//\n{}"}) {
    EXPECT_THAT(ErrorOf(text), HasSubstr("some.json: expected")) << text;
  }
}

TEST(JsonDocument, RefusesNumbersThatJsonOrDoubleDoNotHave) {
  for (const std::string number :
       {"NaN", "Infinity", "-Infinity", "1e400", "-1e999", "01", "+1", ".5", "0x10", "1."}) {
    EXPECT_THAT(ErrorOf("{\"a\":" + number + "}"), HasSubstr("fault at byte")) << number;
  }
}

TEST(JsonDocument, RefusesBadUtf8InPrintableAscii) {
  const std::string error = ErrorOf("{\"a\":\"\xff\xfe\"}");
  EXPECT_THAT(error, HasSubstr("fault at byte"));
  for (const char c : error) EXPECT_TRUE(c >= 0x20 && c < 0x7f) << error;
}

// The library takes a NUL for the end of its input and would not look behind it.
TEST(JsonDocument, RefusesANulAnywhere) {
  EXPECT_THAT(ErrorOf(std::string("{}\0garbage", 10)), HasSubstr("found a NUL at byte 2"));
  EXPECT_THAT(ErrorOf(std::string("{\"a\0\":1}", 8)), HasSubstr("found a NUL at byte 3"));
}

TEST(JsonDocument, RefusesAKeyThatAppearsTwice) {
  EXPECT_THAT(ErrorOf(R"({"a":1,"b":2,"a":3})"), HasSubstr("found 'a' twice"));
  EXPECT_THAT(ErrorOf(R"({"x":{"a":1,"\u0061":3}})"), HasSubstr("found 'a' twice"));
  EXPECT_EQ(ErrorOf(R"({"x":{"a":1},"a":3})"), "no error");
}

TEST(JsonDocument, HoldsItsLimits) {
  const JsonLimits limits = {.max_bytes = 64, .max_depth = 3, .max_values = 6};
  EXPECT_EQ(ErrorOf(R"({"a":[[1,2]]})", limits), "no error");
  EXPECT_THAT(ErrorOf(R"({"a":[[[]]]})", limits), HasSubstr("nested at most 3 deep"));
  EXPECT_EQ(ErrorOf(R"({"a":[1,2,3,4]})", limits), "no error");
  EXPECT_THAT(ErrorOf(R"({"a":[1,2,3,4,5]})", limits), HasSubstr("at most 6 JSON values"));
  EXPECT_EQ(ErrorOf("{}" + std::string(62, ' '), limits), "no error");
  EXPECT_THAT(ErrorOf("{}" + std::string(63, ' '), limits), HasSubstr("at most 64 bytes"));
}

TEST(JsonDocument, SurvivesAMillionOpenBrackets) {
  EXPECT_THAT(ErrorOf("{\"a\":" + std::string(1'000'000, '['), {.max_bytes = 2'000'000}),
              HasSubstr("nested at most 32 deep"));
}

}  // namespace
}  // namespace moed
