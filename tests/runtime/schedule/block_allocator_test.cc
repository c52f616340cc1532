#include "runtime/schedule/block_allocator.h"

#include <vector>

#include "gtest/gtest.h"

namespace moed {
namespace {

TEST(BlockAllocatorTest, GivesTheLowestFreeBlock) {
  BlockAllocator blocks(5);
  ASSERT_TRUE(blocks.Reserve(5));
  for (int32_t expected = 0; expected < 4; ++expected) {
    EXPECT_EQ(blocks.AllocateReserved(), expected);
  }
  blocks.Free({2, 0});
  ASSERT_TRUE(blocks.Reserve(2));
  EXPECT_EQ(blocks.AllocateReserved(), 0);
  EXPECT_EQ(blocks.AllocateReserved(), 2);
  EXPECT_EQ(blocks.AllocateReserved(), 4);
}

TEST(BlockAllocatorTest, PromisesOnlyWhatItHas) {
  BlockAllocator blocks(4);
  EXPECT_TRUE(blocks.Reserve(3));
  EXPECT_FALSE(blocks.Reserve(2));
  EXPECT_EQ(blocks.num_available(), 1);
  EXPECT_TRUE(blocks.Reserve(1));
  EXPECT_EQ(blocks.num_available(), 0);
  EXPECT_EQ(blocks.num_free(), 4) << "a promise takes no block yet";
}

TEST(BlockAllocatorTest, AllComesBack) {
  BlockAllocator blocks(4);
  ASSERT_TRUE(blocks.Reserve(4));
  const std::vector<int32_t> taken = {blocks.AllocateReserved(), blocks.AllocateReserved()};
  EXPECT_EQ(blocks.num_free(), 2);
  EXPECT_EQ(blocks.num_reserved(), 2);
  blocks.Free(taken);
  blocks.Unreserve(2);
  EXPECT_EQ(blocks.num_available(), 4);
}

TEST(BlockAllocatorDeathTest, FreeingTwiceIsOurBug) {
  BlockAllocator blocks(2);
  ASSERT_TRUE(blocks.Reserve(1));
  const int32_t block = blocks.AllocateReserved();
  blocks.Free({block});
  EXPECT_DEATH(blocks.Free({block}), "freed twice");
}

TEST(BlockAllocatorDeathTest, TakingWithoutAPromiseIsOurBug) {
  BlockAllocator blocks(2);
  EXPECT_DEATH(blocks.AllocateReserved(), "not reserved");
}

}  // namespace
}  // namespace moed
