#include "runtime/checkpoint/safetensors_header.h"

#include <ostream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using testing::AllOf;
using testing::HasSubstr;

absl::StatusOr<SafetensorsHeader> Parse(const std::string& json, int64_t data_bytes) {
  return ParseSafetensorsHeader(json, data_bytes, "m.safetensors");
}

TEST(SafetensorsHeader, ReadsTensorsAndMetadata) {
  const auto header = Parse(R"({"b":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]},)"
                            R"("__metadata__":{"format":"pt"},)"
                            R"("a":{"data_offsets":[0,4],"shape":[2],"dtype":"BF16"},)"
                            R"("scalar":{"dtype":"I64","shape":[],"data_offsets":[28,36]},)"
                            R"("empty":{"dtype":"F16","shape":[0,7],"data_offsets":[28,28]}} )",
                            36);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->tensors.size(), 4U);
  const SafetensorsEntry& b = header->tensors.find("b")->second;
  EXPECT_EQ(b.dtype, DType::kFloat32);
  EXPECT_EQ(b.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(b.begin, 4);
  EXPECT_EQ(b.end, 28);
  EXPECT_EQ(header->tensors.find("a")->second.dtype, DType::kBFloat16);
  EXPECT_EQ(header->tensors.find("scalar")->second.dtype, std::nullopt);
  EXPECT_EQ(header->metadata.find("format")->second, "pt");
}

struct Malformed {
  std::string what;
  std::string json;
  int64_t data_bytes;
  std::string error;  // part of it
};

void PrintTo(const Malformed& malformed, std::ostream* out) { *out << malformed.what; }

class SafetensorsHeaderRefuses : public testing::TestWithParam<Malformed> {};

TEST_P(SafetensorsHeaderRefuses, NamingFileAndFault) {
  const auto header = Parse(GetParam().json, GetParam().data_bytes);
  ASSERT_FALSE(header.ok()) << GetParam().what;
  EXPECT_EQ(header.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(
      std::string(header.status().message()),
      AllOf(HasSubstr("m.safetensors: "), HasSubstr("expected"), HasSubstr(GetParam().error)))
      << GetParam().what;
}

// One tensor 'a' with these three values.
std::string OneTensor(const std::string& dtype, const std::string& shape,
                      const std::string& offsets) {
  return "{\"a\":{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets +
         "}}";
}

std::string TwoTensors(const std::string& offsets_a, const std::string& offsets_b) {
  const std::string head = "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":";
  return "{\"a\":" + head + offsets_a + "},\"b\":" + head + offsets_b + "}}";
}

INSTANTIATE_TEST_SUITE_P(
    Headers, SafetensorsHeaderRefuses,
    testing::Values(
        Malformed{"empty", "", 0, "found nothing"},
        Malformed{"leading space", " {}", 0, "begins with '{'"},
        Malformed{"an array", "[]", 0, "begins with '{'"},
        Malformed{"cut", "{\"a\":", 0, "fault at byte"},
        Malformed{"NUL padding", std::string("{}\0\0", 4), 0, "found a NUL at byte 2"},
        Malformed{"bad UTF-8", "{\"\xc3(\":{}}", 0, "fault at byte"},
        Malformed{"nested", R"({"a":{"shape":[[[1]]]}})", 0, "nested at most 3"},
        Malformed{"entry is a number", "{\"a\":3}", 0,
                  "tensor 'a': expected a JSON object, found 3"},
        Malformed{"unknown key", R"({"a":{"dtype":"U8","shape":[],"data_offsets":[0,1],"x":1}})", 1,
                  "found the key 'x'"},
        Malformed{"no dtype", R"({"a":{"shape":[4],"data_offsets":[0,4]}})", 4,
                  "tensor 'a': expected a known dtype, found nothing"},
        Malformed{"unknown dtype", OneTensor("\"Q4_K\"", "[4]", "[0,4]"), 4, "found \"Q4_K\""},
        Malformed{"dtype is no string", OneTensor("3", "[4]", "[0,4]"), 4,
                  "a known dtype, found 3"},
        Malformed{"no shape", R"({"a":{"dtype":"U8","data_offsets":[0,4]}})", 4, "a shape of"},
        Malformed{"shape is a number", OneTensor("\"U8\"", "4", "[0,4]"), 4, "a shape of"},
        Malformed{"nine dimensions", OneTensor("\"U8\"", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1,
                  "at most 8 dimensions"},
        Malformed{"negative dimension", OneTensor("\"U8\"", "[-4]", "[0,4]"), 4, "found [-4]"},
        Malformed{"two negative dimensions", OneTensor("\"U8\"", "[-2,-2]", "[0,4]"), 4, "[-2,-2]"},
        Malformed{"fractional dimension", OneTensor("\"U8\"", "[4.0]", "[0,4]"), 4, "[4.0]"},
        Malformed{"dimension of 2^64", OneTensor("\"U8\"", "[18446744073709551616]", "[0,4]"), 4,
                  "whole numbers"},
        Malformed{"dimension of 2^64 - 4", OneTensor("\"U8\"", "[18446744073709551612]", "[0,4]"),
                  4, "whole numbers"},
        Malformed{"product wraps",
                  OneTensor("\"F32\"", "[4194305,4194305,211106198978564]", "[0,4]"), 4,
                  "fits 63 bits, found [4194305, 4194305, 211106198978564]"},
        Malformed{"product wraps to zero", OneTensor("\"U8\"", "[4294967296,4294967296]", "[0,0]"),
                  0, "fits 63 bits"},
        Malformed{"half a byte", OneTensor("\"F4\"", "[3]", "[0,2]"), 2, "whole number of bytes"},
        Malformed{"no offsets", R"({"a":{"dtype":"U8","shape":[4]}})", 4, "data_offsets"},
        Malformed{"one offset", OneTensor("\"U8\"", "[4]", "[0]"), 4, "data_offsets"},
        Malformed{"three offsets", OneTensor("\"U8\"", "[4]", "[0,4,4]"), 4, "data_offsets"},
        Malformed{"begin after end", OneTensor("\"U8\"", "[4]", "[4,0]"), 4, "found [4,0]"},
        Malformed{"negative begin", OneTensor("\"U8\"", "[4]", "[-4,0]"), 4, "found [-4,0]"},
        Malformed{"past the data", OneTensor("\"U8\"", "[4]", "[0,4]"), 3, "end <= 3"},
        Malformed{"far past the data",
                  OneTensor("\"U8\"", "[4]",
                            "[9223372036854775803,"
                            "9223372036854775807]"),
                  4, "end <= 4"},
        Malformed{"too few bytes", OneTensor("\"F32\"", "[2]", "[0,4]"), 4,
                  "tensor 'a': expected 8 bytes of F32 [2], found 4 bytes"},
        Malformed{"too many bytes", OneTensor("\"BF16\"", "[1]", "[0,4]"), 4, "expected 2 bytes"},
        Malformed{"overlap", TwoTensors("[0,4]", "[2,6]"), 6,
                  "tensor 'b': expected data from byte 4, where 'a' ends, found an overlap"},
        Malformed{"same place", TwoTensors("[0,4]", "[0,4]"), 4, "found an overlap"},
        Malformed{"hole", TwoTensors("[0,4]", "[6,10]"), 10, "found a hole: it begins at byte 6"},
        Malformed{"hole at the front", OneTensor("\"U8\"", "[4]", "[2,6]"), 6, "found a hole"},
        Malformed{"trailing data", TwoTensors("[0,4]", "[4,8]"), 9,
                  "expected 8 bytes of tensor data, found 9"},
        Malformed{"no tensors but data", "{}", 1, "expected 0 bytes of tensor data, found 1"},
        Malformed{"duplicate tensor",
                  R"({"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},)"
                  R"("a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})",
                  1, "found 'a' twice"},
        Malformed{"duplicate key", R"({"a":{"dtype":"U8","dtype":"U8"}})", 1,
                  "found 'dtype' twice"},
        Malformed{"metadata is a list", R"({"__metadata__":[]})", 0, "field '__metadata__'"},
        Malformed{"metadata holds a number", R"({"__metadata__":{"a":1}})", 0,
                  "field '__metadata__.a': expected a string"}));

}  // namespace
}  // namespace moed
