#include "kernels/core/buffer.h"

#include <limits>

#include "gtest/gtest.h"

namespace moed {
namespace {

TEST(BufferTest, HostBuffersAreZeroedAndAligned) {
  for (const int64_t bytes : {0, 1, 100, 3 << 20}) {
    const auto buffer = AllocateHostBuffer(bytes);
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    EXPECT_EQ(buffer->bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0U);
    for (int64_t i = 0; i < bytes; ++i) ASSERT_EQ(static_cast<const char*>(buffer->data())[i], 0);
  }
}

TEST(BufferTest, ASizeThatCannotBeRoundedUpIsRefused) {
  const auto buffer = AllocateHostBuffer(std::numeric_limits<int64_t>::max() - 10);
  EXPECT_EQ(buffer.status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(BufferTest, MemoryIsReleasedOnceWhereverItMoves) {
  int released = 0;
  int value = 0;
  {
    Buffer first(&value, sizeof(value), [&](void*) { ++released; });
    Buffer second(std::move(first));
    Buffer third;
    third = std::move(second);
    EXPECT_EQ(released, 0);
    EXPECT_EQ(third.data(), &value);
    third = Buffer();
    EXPECT_EQ(released, 1);
  }
  EXPECT_EQ(released, 1);
}

TEST(TensorViewTest, RowsAreAViewOfTheSameMemory) {
  float values[6] = {0, 1, 2, 3, 4, 5};
  const TensorView view(values, DType::kFloat32, {3, 2});
  const TensorView rows = view.Rows(1, 2);
  EXPECT_EQ(rows.dim(0), 2);
  EXPECT_EQ(rows.data<float>(), values + 2);
  EXPECT_EQ(view.Rows(3, 0).num_elements(), 0);
  EXPECT_EQ(view.bytes(), 24);
}

}  // namespace
}  // namespace moed
