#include "runtime/schedule/block_hash.h"

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

TEST(BlockHashTest, RootsDifferInExpertsAndSalt) {
  EXPECT_EQ(RootHash(2, ""), RootHash(2, ""));
  EXPECT_NE(RootHash(2, ""), RootHash(1, ""));
  EXPECT_NE(RootHash(2, ""), RootHash(2, "tenant"));
}

TEST(BlockHashTest, DependsOnEveryTokenTheirOrderAndTheParent) {
  const BlockHash root = RootHash(2, "");
  const std::vector<int32_t> tokens = {1, 2, 3, 4};
  absl::flat_hash_set<BlockHash> seen = {root, NextHash(root, tokens)};
  for (size_t i = 0; i < tokens.size(); ++i) {
    std::vector<int32_t> other = tokens;
    other[i] += 100;
    EXPECT_TRUE(seen.insert(NextHash(root, other)).second) << "token " << i;
  }
  EXPECT_TRUE(seen.insert(NextHash(root, {2, 1, 3, 4})).second) << "order";
  EXPECT_TRUE(seen.insert(NextHash(NextHash(root, tokens), tokens)).second) << "parent";
  EXPECT_TRUE(seen.insert(NextHash(RootHash(2, "salt"), tokens)).second) << "salt";
}

TEST(BlockHashTest, IsTheBeginningOfSha256) {
  // The bytes "moed root", 2 as a little-endian int32, and "s"; from Python's hashlib.
  const BlockHash hash = RootHash(2, "s");
  std::vector<uint8_t> bytes;
  for (const uint64_t word : hash.words) {
    for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<uint8_t>(word >> (8 * i)));
  }
  EXPECT_EQ(bytes, (std::vector<uint8_t>{0xb7, 0x46, 0x79, 0x80, 0xc4, 0x08, 0x4b, 0xde, 0xab, 0xcc,
                                         0x0c, 0xb4, 0xe8, 0xae, 0x9d, 0x6f}));
}

}  // namespace
}  // namespace moed
