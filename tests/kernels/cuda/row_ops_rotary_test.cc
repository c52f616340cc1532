// RotaryCacheWrite against the CPU's reference.
#include <cmath>

#include "kernels/cuda/row_ops.h"
#include "tests/cuda_host/launch_log.h"
#include "tests/kernels/cuda/reference_fixture.h"

namespace moed::cuda {
namespace {

class CudaRotaryTest : public ReferenceActTest {};
INSTANTIATE_TEST_SUITE_P(Act, CudaRotaryTest, testing::Values(DType::kFloat32, DType::kBFloat16),
                         ActName);

struct Heads {
  int64_t num_heads;
  int64_t num_kv_heads;
  int64_t head_dim;
};

Tensor CosSin(int64_t max_positions, int64_t head_dim) {
  Tensor table(DType::kFloat32, {max_positions, head_dim});
  const int64_t half = head_dim / 2;
  for (int64_t p = 0; p < max_positions; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
      const double angle = static_cast<double>(p) * std::pow(10000.0, exponent);
      table.set(p * head_dim + i, static_cast<float>(std::cos(angle)));
      table.set(p * head_dim + half + i, static_cast<float>(std::sin(angle)));
    }
  }
  return table;
}

TEST_P(CudaRotaryTest, MatchesTheReferenceAndLeavesOtherSlots) {
  const int64_t block_size = 4;
  for (const Heads& h : {Heads{4, 2, 6}, Heads{1, 1, 2}, Heads{8, 2, 64}, Heads{3, 3, 20}}) {
    const int64_t width = (h.num_heads + 2 * h.num_kv_heads) * h.head_dim;
    const Tensor qkv = Tensor::Random(DType::kFloat32, {5, width}, 4);
    const Tensor table = CosSin(40, h.head_dim);
    const Tensor positions = Tensor::Ints({5}, {9, 0, 39, 1, 20});
    const Tensor slots = Tensor::Ints({5}, {11, 0, 7, 4, 2});
    const Tensor cache = Tensor::Random(act(), {3, h.num_kv_heads, block_size, h.head_dim}, 5);
    Tensor want_q(DType::kFloat32, {5, h.num_heads, h.head_dim});
    Tensor want_k = cache;
    Tensor want_v = cache;
    cpu(act()).RotaryCacheWrite(
        cpu_stream(), {qkv, positions, slots, table, want_q.view(), want_k.view(), want_v.view()});
    for (const int64_t shift : {0, 1}) {
      UnderEachBlockOrder([&] {
        const TensorView q = Put(Tensor(DType::kFloat32, {5, h.num_heads, h.head_dim}));
        const TensorView k = Put(cache, shift);
        const TensorView v = Put(cache);
        RotaryCacheWrite(stream(), {Put(qkv), Put(positions), Put(slots), Put(table), q, k, v});
        const std::string what = "head_dim " + std::to_string(h.head_dim);
        // Of two products and their sum, fused or not; bfloat16: one unit in the last place.
        const double relative = act() == DType::kBFloat16 ? 0x1p-7 : 0;
        ExpectNear(Get(q, want_q), want_q, 0, 1e-6, what + ", queries");
        ExpectNear(Get(k, want_k), want_k, relative, 1e-6, what + ", keys");
        EXPECT_EQ(Get(v, want_v).bytes(), want_v.bytes()) << what << ", values";
      });
    }
  }
}

TEST_P(CudaRotaryTest, NoTokensLaunchNothing) {
  const TensorView none = Put(Tensor(DType::kFloat32, {0, 24}));
  const TensorView no_ints = Put(Tensor::Ints({0}, {}));
  const TensorView cache = Put(Tensor(act(), {3, 1, 4, 8}));
  const TensorView table = Put(CosSin(4, 8));
  const TensorView no_q = Put(Tensor(DType::kFloat32, {0, 1, 8}));
  Run();
  const auto before = cuda_host::LaunchCounts();
  RotaryCacheWrite(stream(), {none, no_ints, no_ints, table, no_q, cache, cache});
  Run();
  EXPECT_EQ(cuda_host::LaunchCounts(), before);
}

}  // namespace
}  // namespace moed::cuda
