#include "runtime/checkpoint/checkpoint_index.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::string ErrorOf(const std::string& json) {
  return std::string(ParseCheckpointIndex(json, "index.json").status().message());
}

TEST(CheckpointIndex, ReadsShardsAndTotalSize) {
  const auto index = ParseCheckpointIndex(
      R"({"metadata":{"total_size":12},"weight_map":{"a":"2.safetensors","b":"1.safetensors",)"
      R"("c":"2.safetensors"}})",
      "index.json");
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(index->total_size_bytes, 12);
  EXPECT_THAT(index->shards, ElementsAre("1.safetensors", "2.safetensors"));
  EXPECT_EQ(index->shard_of.find("a")->second, 1);
  EXPECT_EQ(index->shard_of.find("b")->second, 0);
  EXPECT_EQ(index->shard_of.find("c")->second, 1);
}

TEST(CheckpointIndex, TakesATotalSizeWrittenAsAFloatOrAbsent) {
  EXPECT_EQ(ParseCheckpointIndex(
                R"({"metadata":{"total_size":12.0},"weight_map":{"a":"1.safetensors"}})", "i")
                ->total_size_bytes,
            12);
  EXPECT_EQ(ParseCheckpointIndex(R"({"weight_map":{"a":"1.safetensors"}})", "i")->total_size_bytes,
            std::nullopt);
}

TEST(CheckpointIndex, RefusesShardsThatAreNoPlainFileNames) {
  for (const std::string shard :
       {"/etc/model.safetensors", "../model.safetensors", "a/../../model.safetensors",
        "sub/model.safetensors", "..", ".", "", ".safetensors", "..safetensors", "model.bin",
        "a\\\\b.safetensors", "a\\u0000.safetensors", "model.safetensors/", "a\\n.safetensors"}) {
    EXPECT_THAT(ErrorOf("{\"weight_map\":{\"some.tensor\":\"" + shard + "\"}}"),
                AllOf(HasSubstr("index.json: tensor 'some.tensor': expected a shard in this "
                                "directory"),
                      HasSubstr(", found \"")))
        << shard;
  }
  const std::string long_name(300, 'a');
  EXPECT_THAT(ErrorOf("{\"weight_map\":{\"t\":\"" + long_name + ".safetensors\"}}"),
              HasSubstr("plain file name"));
  EXPECT_THAT(ErrorOf(R"({"weight_map":{"t":7}})"), HasSubstr("found 7"));
}

TEST(CheckpointIndex, RefusesMalformedIndexes) {
  EXPECT_THAT(ErrorOf("{}"), HasSubstr("field 'weight_map'"));
  EXPECT_THAT(ErrorOf(R"({"weight_map":{}})"), HasSubstr("field 'weight_map'"));
  EXPECT_THAT(ErrorOf(R"({"weight_map":["a"]})"), HasSubstr("field 'weight_map'"));
  EXPECT_THAT(ErrorOf(R"({"weight_map":{"a":"1.safetensors","a":"2.safetensors"}})"),
              HasSubstr("found 'a' twice"));
  EXPECT_THAT(ErrorOf(R"({"metadata":3,"weight_map":{"a":"1.safetensors"}})"),
              HasSubstr("field 'metadata'"));
  EXPECT_THAT(ErrorOf(R"({"metadata":{"total_size":-1},"weight_map":{"a":"1.safetensors"}})"),
              HasSubstr("field 'metadata.total_size'"));
  EXPECT_THAT(ErrorOf(R"({"metadata":{"total_size":1e300},"weight_map":{"a":"1.safetensors"}})"),
              HasSubstr("field 'metadata.total_size'"));
}

}  // namespace
}  // namespace moed
