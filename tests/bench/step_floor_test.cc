#include "tests/bench/step_floor.h"

#include <gtest/gtest.h>

#include "kernels/core/dtype.h"
#include "runtime/checkpoint/model_config.h"

namespace moed {
namespace {

// What a device without limits reads and computes, in bfloat16.
StepCost CostOf(const StepShape& shape) {
  ModelConfig config;
  config.vocab_size = 100;
  config.hidden = 64;
  config.ffn = 96;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 16;
  config.num_experts = 8;
  config.top_k = 2;
  return StepFloor(config, DType::kBFloat16, {}).Of(shape);
}

constexpr double kExpert = 3 * 64 * 96;  // weights of one

TEST(StepFloorTest, CopiesOfARowHitNoMoreExperts) {
  const StepCost without = CostOf({.rows = 1});
  for (const double copies : {1.0, 8.0}) {
    const StepCost cost = CostOf({.rows = 1, .copies = copies, .local_experts = 1});
    // Two of eight experts are chosen: of the one that is here, a quarter, in each of two layers.
    EXPECT_DOUBLE_EQ(cost.bytes - without.bytes, 2 * 0.25 * kExpert * 2) << copies;
    EXPECT_DOUBLE_EQ(cost.flops - without.flops, 2 * copies * 0.25 * kExpert * 2) << copies;
  }
}

TEST(StepFloorTest, RowsOfItsOwnDo) {
  const StepCost without = CostOf({.rows = 2});
  const StepCost cost = CostOf({.rows = 2, .local_experts = 8});
  EXPECT_DOUBLE_EQ(cost.bytes - without.bytes, 2 * 8 * (1 - 0.75 * 0.75) * kExpert * 2);
  EXPECT_DOUBLE_EQ(cost.flops - without.flops, 2 * 2 * 2 * kExpert * 2);
}

}  // namespace
}  // namespace moed
