#include "runtime/schedule/block_pool.h"

#include <optional>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::Optional;

BlockHash Hash(uint64_t value) { return BlockHash{{value, ~value}}; }

std::vector<int32_t> AllocateAll(BlockPool& pool) {
  std::vector<int32_t> blocks;
  while (const std::optional<int32_t> block = pool.Allocate()) blocks.push_back(*block);
  return blocks;
}

TEST(BlockPoolTest, GivesTheLowestEmptyBlock) {
  BlockPool pool(4);
  EXPECT_THAT(AllocateAll(pool), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(pool.Allocate(), std::nullopt);
  pool.Release({3, 1});
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_THAT(AllocateAll(pool), ElementsAre(1, 3));
}

TEST(BlockPoolTest, ABlockIsFreeWhenItsLastUserHasGone) {
  BlockPool pool(2);
  const int32_t block = *pool.Allocate();
  pool.Share(block);
  EXPECT_EQ(pool.num_users(block), 2);
  pool.Release({block});
  EXPECT_EQ(pool.num_free(), 1);
  pool.Release({block});
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_EQ(pool.num_cached(), 0) << "what was never published cannot be found";
}

TEST(BlockPoolTest, APublishedBlockIsFoundWhileUsedAndAfterwards) {
  BlockPool pool(2);
  const int32_t block = *pool.Allocate();
  EXPECT_EQ(pool.Find(Hash(7)), std::nullopt);
  EXPECT_TRUE(pool.Publish(block, Hash(7)));
  EXPECT_THAT(pool.Find(Hash(7)), Optional(block));
  pool.Release({block});
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_EQ(pool.num_cached(), 1);
  EXPECT_THAT(pool.Find(Hash(7)), Optional(block));
  pool.Share(block);
  EXPECT_EQ(pool.num_free(), 1);
  EXPECT_EQ(pool.num_cached(), 0);
}

TEST(BlockPoolTest, OneContentHasOneBlock) {
  BlockPool pool(3);
  const int32_t first = *pool.Allocate();
  const int32_t second = *pool.Allocate();
  EXPECT_TRUE(pool.Publish(first, Hash(1)));
  EXPECT_FALSE(pool.Publish(second, Hash(1))) << "another block has this content";
  EXPECT_FALSE(pool.Publish(first, Hash(2))) << "this block has another content";
  EXPECT_EQ(pool.Find(Hash(2)), std::nullopt);
}

TEST(BlockPoolTest, EvictsTheLeastRecentlyUsedAndOfASequenceItsEndFirst) {
  BlockPool pool(4);
  const std::vector<int32_t> blocks = AllocateAll(pool);
  for (const int32_t block : blocks) pool.Publish(block, Hash(block));
  pool.Release({0, 1, 2});  // one sequence: 2 goes before 1, and 1 before 0
  pool.Release({3});
  pool.Share(1);  // used again, and so the most recent
  pool.Release({1});
  EXPECT_THAT(AllocateAll(pool), ElementsAre(2, 0, 3, 1));
  EXPECT_EQ(pool.num_evictions(), 4);
  EXPECT_EQ(pool.Find(Hash(0)), std::nullopt);
}

TEST(BlockPoolTest, EmptyBlocksGoBeforeCachedOnes) {
  BlockPool pool(2);
  const std::vector<int32_t> blocks = AllocateAll(pool);
  pool.Publish(0, Hash(0));
  pool.Release(blocks);
  EXPECT_THAT(pool.Allocate(), Optional(1));
  EXPECT_THAT(pool.Find(Hash(0)), Optional(0));
}

TEST(BlockPoolDeathTest, ReleasingTwiceIsOurBug) {
  BlockPool pool(2);
  const int32_t block = *pool.Allocate();
  pool.Release({block});
  EXPECT_DEATH(pool.Release({block}), "released twice");
}

TEST(BlockPoolDeathTest, SharingAnEmptyBlockIsOurBug) {
  BlockPool pool(2);
  EXPECT_DEATH(pool.Share(0), "empty block is shared");
}

}  // namespace
}  // namespace moed
