#include <algorithm>
#include <cmath>

#include "tests/kernels/cpu/kernel_test.h"

namespace moed {
namespace {

using PagedAttentionTest = KernelTest;
INSTANTIATE_TEST_SUITE_P(Kernels, PagedAttentionTest, testing::ValuesIn(AllKernelCases()),
                         KernelCaseName);

struct Shape {
  int64_t num_heads = 4;
  int64_t num_kv_heads = 2;
  int64_t head_dim = 16;
  int64_t block_size = 8;
  int32_t window = 0;
};

// One sequence: queries of every position, and its keys and values in some blocks of a cache.
struct Sequence {
  Shape shape;
  int64_t length = 0;
  Tensor q;
  Tensor k;  // [length, num_kv_heads, head_dim]
  Tensor v;
  Tensor k_cache;
  Tensor v_cache;
  std::vector<int32_t> blocks;
};

// `block_seed` permutes the physical blocks; what the sequence does not own is filled with NaN.
Sequence MakeSequence(DType act, const Shape& shape, int64_t length, uint32_t block_seed) {
  Sequence s;
  s.shape = shape;
  s.length = length;
  s.q = Tensor::Random(DType::kFloat32, {length, shape.num_heads, shape.head_dim}, 11);
  s.k = Tensor::Random(act, {length, shape.num_kv_heads, shape.head_dim}, 12);
  s.v = Tensor::Random(act, {length, shape.num_kv_heads, shape.head_dim}, 13);
  const int64_t needed = (length + shape.block_size - 1) / shape.block_size;
  const int64_t num_blocks = needed + 3;
  s.k_cache = Tensor(act, {num_blocks, shape.num_kv_heads, shape.block_size, shape.head_dim});
  for (int64_t i = 0; i < s.k_cache.size(); ++i) s.k_cache.set(i, NAN);
  s.v_cache = s.k_cache;
  for (int32_t b = 0; b < num_blocks; ++b) s.blocks.push_back(b);
  std::mt19937 engine(block_seed);
  std::shuffle(s.blocks.begin(), s.blocks.end(), engine);
  s.blocks.resize(static_cast<size_t>(needed));
  for (int64_t p = 0; p < length; ++p) {
    for (int64_t h = 0; h < shape.num_kv_heads; ++h) {
      for (int64_t d = 0; d < shape.head_dim; ++d) {
        const int64_t block = s.blocks[static_cast<size_t>(p / shape.block_size)];
        const int64_t at =
            ((block * shape.num_kv_heads + h) * shape.block_size + p % shape.block_size) *
                shape.head_dim +
            d;
        s.k_cache.set(at, s.k.at((p * shape.num_kv_heads + h) * shape.head_dim + d));
        s.v_cache.set(at, s.v.at((p * shape.num_kv_heads + h) * shape.head_dim + d));
      }
    }
  }
  return s;
}

// Attention of the positions [begin, end), as one chunk that ends there.
Tensor RunChunk(Backend& backend, Stream& stream, const Sequence& s, int64_t begin, int64_t end) {
  const auto count = static_cast<int32_t>(end - begin);
  const Tensor starts = Tensor::Ints({2}, {0, count});
  const Tensor lengths = Tensor::Ints({1}, {static_cast<int32_t>(end)});
  const Tensor table = Tensor::Ints({1, static_cast<int64_t>(s.blocks.size())}, s.blocks);
  Tensor out(backend.activation_dtype(), {end - begin, s.shape.num_heads * s.shape.head_dim});
  PagedAttentionArgs args;
  args.q = static_cast<ConstTensorView>(s.q).Rows(begin, end - begin);
  args.k_cache = s.k_cache;
  args.v_cache = s.v_cache;
  args.chunk_starts = starts;
  args.context_lengths = lengths;
  args.block_tables = table;
  args.scale = 1.0F / std::sqrt(static_cast<float>(s.shape.head_dim));
  args.sliding_window = s.shape.window;
  args.out = out.view();
  backend.PagedAttention(stream, args);
  return out;
}

std::vector<double> Exact(const Sequence& s, int64_t begin, int64_t end) {
  const Shape& shape = s.shape;
  const std::vector<float> q = s.q.floats();
  const std::vector<float> k = s.k.floats();
  const std::vector<float> v = s.v.floats();
  std::vector<double> out;
  for (int64_t p = begin; p < end; ++p) {
    for (int64_t h = 0; h < shape.num_heads; ++h) {
      const int64_t kv = h / (shape.num_heads / shape.num_kv_heads);
      const int64_t first = shape.window == 0 ? 0 : std::max<int64_t>(0, p - shape.window + 1);
      std::vector<double> scores;
      for (int64_t j = first; j <= p; ++j) {
        double dot = 0;
        for (int64_t d = 0; d < shape.head_dim; ++d) {
          dot += static_cast<double>(
                     q[static_cast<size_t>((p * shape.num_heads + h) * shape.head_dim + d)]) *
                 k[static_cast<size_t>((j * shape.num_kv_heads + kv) * shape.head_dim + d)];
        }
        scores.push_back(dot / std::sqrt(static_cast<double>(shape.head_dim)));
      }
      const double largest = *std::max_element(scores.begin(), scores.end());
      double total = 0;
      for (double& score : scores) total += score = std::exp(score - largest);
      for (int64_t d = 0; d < shape.head_dim; ++d) {
        double sum = 0;
        for (int64_t j = first; j <= p; ++j) {
          sum += scores[static_cast<size_t>(j - first)] *
                 v[static_cast<size_t>((j * shape.num_kv_heads + kv) * shape.head_dim + d)];
        }
        out.push_back(sum / total);
      }
    }
  }
  return out;
}

// Values are standard normal: the output is an average of them, so the bound is absolute.
double Tolerance(DType act) { return act == DType::kFloat32 ? 3e-6 : 3e-6 + 0x1p-8 * 4; }

TEST_P(PagedAttentionTest, MatchesDoubleSoftmax) {
  for (const Shape& shape : {Shape{4, 2, 16, 8, 0}, Shape{1, 1, 2, 1, 0}, Shape{6, 3, 12, 5, 0},
                             Shape{8, 1, 128, 16, 0}, Shape{3, 3, 40, 64, 0}, Shape{4, 2, 16, 8, 1},
                             Shape{4, 2, 16, 8, 50}, Shape{4, 2, 18, 100, 64}}) {
    const int64_t length = 141;
    const Sequence s = MakeSequence(act(), shape, length, 1);
    const Tensor out = RunChunk(*backend_, *stream_, s, 0, length);
    const std::vector<double> want = Exact(s, 0, length);
    ExpectClose(
        out.floats(), want, std::vector<double>(want.size(), Tolerance(act())),
        "head_dim " + std::to_string(shape.head_dim) + ", window " + std::to_string(shape.window));
  }
}

TEST_P(PagedAttentionTest, ATokenHasTheSameBitsInAnyChunk) {
  for (const Shape& shape : {Shape{4, 2, 16, 8, 0}, Shape{8, 1, 24, 7, 0}, Shape{4, 2, 16, 8, 37},
                             Shape{3, 3, 6, 16, 0}}) {
    const int64_t length = 200;
    const Sequence s = MakeSequence(act(), shape, length, 2);
    const Tensor whole = RunChunk(*backend_, *stream_, s, 0, length);
    for (const int64_t chunk : {1, 3, 64, 67, 128}) {
      for (int64_t begin = 0; begin < length; begin += chunk) {
        const int64_t end = std::min(begin + chunk, length);
        const Tensor part = RunChunk(*backend_, *stream_, s, begin, end);
        ASSERT_EQ(part.bytes(), whole.bytes(begin, end - begin))
            << "tokens [" << begin << ", " << end << "), window " << shape.window;
      }
    }
  }
}

TEST_P(PagedAttentionTest, PhysicalBlocksAndThreadsDoNotChangeBits) {
  const Shape shape{4, 2, 16, 8, 0};
  const Sequence s = MakeSequence(act(), shape, 180, 3);
  const Tensor want = RunChunk(*backend_, *stream_, s, 0, 180);
  const Sequence moved = MakeSequence(act(), shape, 180, 4);
  EXPECT_NE(s.blocks, moved.blocks);
  EXPECT_EQ(RunChunk(*backend_, *stream_, moved, 0, 180).bytes(), want.bytes());
  for (const int threads : {2, 4}) {
    auto other = MakeTestBackend(GetParam(), threads);
    EXPECT_EQ(RunChunk(*other, *stream_, s, 0, 180).bytes(), want.bytes()) << threads;
  }
}

// A prompt chunk, a decode and an empty chunk in one call, over one cache.
TEST_P(PagedAttentionTest, ChunksOfABatchDoNotMix) {
  const Shape shape{4, 2, 16, 8, 0};
  const Sequence s = MakeSequence(act(), shape, 100, 5);
  const auto max_blocks = static_cast<int64_t>(s.blocks.size());
  std::vector<int32_t> tables;
  for (int c = 0; c < 3; ++c) tables.insert(tables.end(), s.blocks.begin(), s.blocks.end());
  Tensor q(DType::kFloat32, {31, 4, 16});
  for (int64_t i = 0; i < 30 * 64; ++i) q.set(i, s.q.at(20 * 64 + i));
  for (int64_t i = 0; i < 64; ++i) q.set(30 * 64 + i, s.q.at(99 * 64 + i));
  const Tensor starts = Tensor::Ints({4}, {0, 30, 30, 31});
  const Tensor lengths = Tensor::Ints({3}, {50, 0, 100});
  const Tensor block_tables = Tensor::Ints({3, max_blocks}, tables);
  Tensor out(act(), {31, 64});
  backend_->PagedAttention(
      *stream_, {q, s.k_cache, s.v_cache, starts, lengths, block_tables, 0.25F, 0, out.view()});
  EXPECT_EQ(out.bytes(0, 30), RunChunk(*backend_, *stream_, s, 20, 50).bytes());
  EXPECT_EQ(out.bytes(30, 1), RunChunk(*backend_, *stream_, s, 99, 100).bytes());
}

TEST_P(PagedAttentionTest, LaterInfinitiesDoNotReachEarlierTokens) {
  const Shape shape{2, 1, 8, 16, 0};
  Sequence s = MakeSequence(act(), shape, 30, 6);
  const Tensor want = RunChunk(*backend_, *stream_, s, 0, 30);
  const int64_t at = (s.blocks[1] * 16 + 10) * 8;  // position 26
  s.v_cache.set(at, INFINITY);
  s.k_cache.set(at, INFINITY);
  const Tensor got = RunChunk(*backend_, *stream_, s, 0, 30);
  EXPECT_EQ(got.bytes(0, 26), want.bytes(0, 26));
  EXPECT_NE(got.bytes(26, 1), want.bytes(26, 1));
}

TEST_P(PagedAttentionTest, LargeScoresDoNotOverflow) {
  const Shape shape{1, 1, 4, 8, 0};
  Sequence s = MakeSequence(act(), shape, 70, 7);
  for (int64_t i = 0; i < s.q.size(); ++i) s.q.set(i, s.q.at(i) * 1e4F);
  const Tensor out = RunChunk(*backend_, *stream_, s, 0, 70);
  for (const float value : out.floats()) EXPECT_TRUE(std::isfinite(value));
}

TEST_P(PagedAttentionTest, NoTokensIsNoWork) {
  const Sequence s = MakeSequence(act(), {}, 8, 8);
  const Tensor starts = Tensor::Ints({1}, {0});
  const Tensor none = Tensor::Ints({0}, {});
  const Tensor tables = Tensor::Ints({0, 4}, {});
  Tensor out(act(), {0, 64});
  const ConstTensorView q = s.q;
  backend_->PagedAttention(
      *stream_, {q.Rows(0, 0), s.k_cache, s.v_cache, starts, none, tables, 0.25F, 0, out.view()});
}

}  // namespace
}  // namespace moed
