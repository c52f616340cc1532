#include "server/app/heap_trimmer.h"

#include <malloc.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace moed {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

int64_t ResidentBytes() {
  int64_t total = 0;
  int64_t resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// Pieces too small for pages of their own, of which the last one stays: the heap cannot shrink.
std::unique_ptr<std::vector<char>> LeaveFreeHeap(int64_t bytes) {
  constexpr size_t kPieceBytes = 8 << 10;
  std::vector<std::unique_ptr<std::vector<char>>> pieces;
  for (int64_t used = 0; used < bytes; used += kPieceBytes) {
    pieces.push_back(std::make_unique<std::vector<char>>(kPieceBytes, 'x'));
  }
  return std::move(pieces.back());
}

TEST(HeapTrimmerTest, WhatABurstHasLeftGoesBack) {
  if (mallinfo2().arena == 0) GTEST_SKIP() << "a sanitizer's allocator";
  const auto last = LeaveFreeHeap(4 * HeapTrimmer::kWorthBytes);
  const int64_t before = ResidentBytes();
  const HeapTrimmer trimmer(milliseconds(1));
  const auto end = steady_clock::now() + std::chrono::minutes(1);
  while (ResidentBytes() > before - 3 * HeapTrimmer::kWorthBytes) {
    ASSERT_LT(steady_clock::now(), end);
    std::this_thread::sleep_for(milliseconds(1));
  }
}

TEST(HeapTrimmerTest, EndsAtOnce) {
  const auto begin = steady_clock::now();
  { const HeapTrimmer trimmer(std::chrono::hours(1)); }
  EXPECT_LT(steady_clock::now() - begin, std::chrono::minutes(1));
}

}  // namespace
}  // namespace moed
