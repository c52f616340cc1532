#include "tests/kernels/cuda/paged_attention_fixture.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "absl/strings/str_cat.h"

namespace moed::cuda {
namespace {

size_t At(int64_t i) { return static_cast<size_t>(i); }

// What no row sees is never looked at: far outside of any cache.
constexpr int32_t kNoBlock = 1 << 22;

// A batch in host memory.
struct Batch {
  Tensor q;
  Tensor chunk_starts;
  Tensor context_lengths;
  Tensor block_tables;
};

Batch MakeBatch(const Contexts& contexts, const std::vector<ChunkOf>& chunks) {
  std::vector<int32_t> starts = {0};
  std::vector<int32_t> lengths;
  std::vector<int32_t> tables;
  std::vector<float> q;
  size_t max_blocks = 1;
  for (const auto& blocks : contexts.blocks) max_blocks = std::max(max_blocks, blocks.size());
  const int64_t row_size = contexts.shape.num_heads * contexts.shape.head_dim;
  for (const ChunkOf& chunk : chunks) {
    starts.push_back(starts.back() + static_cast<int32_t>(chunk.end - chunk.begin));
    lengths.push_back(static_cast<int32_t>(chunk.end));
    const auto& blocks = contexts.blocks[At(chunk.context)];
    tables.insert(tables.end(), blocks.begin(), blocks.end());
    tables.resize(lengths.size() * max_blocks, kNoBlock);
    if (contexts.shape.window > 0) {
      const int64_t first_seen = std::max<int64_t>(0, chunk.begin - contexts.shape.window + 1);
      const auto row = tables.end() - static_cast<int64_t>(max_blocks);
      std::fill_n(row, first_seen / contexts.shape.block_size, kNoBlock);
    }
    const Tensor& all = contexts.q[At(chunk.context)];
    for (int64_t i = chunk.begin * row_size; i < chunk.end * row_size; ++i) q.push_back(all.at(i));
  }
  const auto num_chunks = static_cast<int64_t>(chunks.size());
  return {Tensor::Of(DType::kFloat32,
                     {starts.back(), contexts.shape.num_heads, contexts.shape.head_dim}, q),
          Tensor::Ints({num_chunks + 1}, starts), Tensor::Ints({num_chunks}, lengths),
          Tensor::Ints({num_chunks, static_cast<int64_t>(max_blocks)}, tables)};
}

ConstTensorView Like(const Buffer& buffer, ConstTensorView view) {
  const auto dim = [&](int axis) { return view.dim(axis); };
  switch (view.rank()) {
    case 1:
      return {buffer.data(), view.dtype(), {dim(0)}};
    case 2:
      return {buffer.data(), view.dtype(), {dim(0), dim(1)}};
    case 3:
      return {buffer.data(), view.dtype(), {dim(0), dim(1), dim(2)}};
    default:
      return {buffer.data(), view.dtype(), {dim(0), dim(1), dim(2), dim(3)}};
  }
}

PagedAttentionArgs ArgsOf(const Contexts& contexts, const Batch& batch) {
  PagedAttentionArgs args;
  args.q = batch.q;
  args.k_cache = contexts.k_cache;
  args.v_cache = contexts.v_cache;
  args.chunk_starts = batch.chunk_starts;
  args.context_lengths = batch.context_lengths;
  args.block_tables = batch.block_tables;
  args.scale = 1.0F / std::sqrt(static_cast<float>(contexts.shape.head_dim));
  args.sliding_window = contexts.shape.window;
  return args;
}

Tensor OutFor(const Contexts& contexts, const Batch& batch) {
  return Tensor(ConstTensorView(contexts.k_cache).dtype(),
                {batch.q.dim(0), contexts.shape.num_heads * contexts.shape.head_dim});
}

}  // namespace

std::string CacheShape::Text() const {
  return absl::StrCat(num_heads, " heads, ", num_kv_heads, " of keys, head_dim ", head_dim,
                      ", block_size ", block_size, ", window ", window);
}

int64_t Contexts::CacheIndex(int64_t context, int64_t position, int64_t kv_head) const {
  const int64_t block = blocks[At(context)][At(position / shape.block_size)];
  return ((block * shape.num_kv_heads + kv_head) * shape.block_size + position % shape.block_size) *
         shape.head_dim;
}

Contexts MakeContexts(DType act, const CacheShape& shape, std::vector<int64_t> lengths,
                      uint32_t block_seed) {
  Contexts c;
  c.shape = shape;
  c.lengths = std::move(lengths);
  std::vector<int32_t> free_blocks;
  int64_t num_blocks = 3;
  for (const int64_t length : c.lengths) num_blocks += (length - 1) / shape.block_size + 1;
  for (int32_t b = 0; b < num_blocks; ++b) free_blocks.push_back(b);
  std::mt19937 engine(block_seed);
  std::shuffle(free_blocks.begin(), free_blocks.end(), engine);
  c.k_cache = Tensor(act, {num_blocks, shape.num_kv_heads, shape.block_size, shape.head_dim});
  for (int64_t i = 0; i < c.k_cache.size(); ++i) c.k_cache.set(i, NAN);
  c.v_cache = c.k_cache;
  uint32_t seed = 11;
  for (const int64_t length : c.lengths) {
    const auto index = static_cast<int64_t>(c.blocks.size());
    const int64_t needed = (length - 1) / shape.block_size + 1;
    c.blocks.emplace_back(free_blocks.end() - needed, free_blocks.end());
    free_blocks.resize(free_blocks.size() - At(needed));
    c.q.push_back(
        Tensor::Random(DType::kFloat32, {length, shape.num_heads, shape.head_dim}, seed++));
    const Tensor k = Tensor::Random(act, {length, shape.num_kv_heads, shape.head_dim}, seed++);
    const Tensor v = Tensor::Random(act, {length, shape.num_kv_heads, shape.head_dim}, seed++);
    for (int64_t p = 0; p < length; ++p) {
      for (int64_t h = 0; h < shape.num_kv_heads; ++h) {
        for (int64_t d = 0; d < shape.head_dim; ++d) {
          const int64_t from = (p * shape.num_kv_heads + h) * shape.head_dim + d;
          const int64_t to = c.CacheIndex(index, p, h) + d;
          c.k_cache.set(to, k.at(from));
          c.v_cache.set(to, v.at(from));
        }
      }
    }
  }
  return c;
}

WorkspaceLimits AttentionLimits(const CacheShape& shape, int64_t max_rows,
                                int64_t max_context_tokens) {
  WorkspaceLimits limits = TestLimits();
  limits.max_rows = max_rows;
  limits.max_context_tokens = max_context_tokens;
  limits.num_heads = shape.num_heads;
  limits.num_kv_heads = shape.num_kv_heads;
  limits.head_dim = shape.head_dim;
  return limits;
}

Tensor PagedAttentionTest::Attend(const Contexts& contexts, const std::vector<ChunkOf>& chunks,
                                  const WorkspaceLimits& limits) {
  const auto kernels = PagedAttentionKernels::Create(memory(), limits);
  EXPECT_TRUE(kernels.ok()) << kernels.status();
  const Batch batch = MakeBatch(contexts, chunks);
  PagedAttentionArgs args = ArgsOf(contexts, batch);
  std::vector<Buffer> buffers;
  for (ConstTensorView* view : {&args.q, &args.k_cache, &args.v_cache, &args.chunk_starts,
                                &args.context_lengths, &args.block_tables}) {
    buffers.push_back(UploadView(*view));
    *view = Like(buffers.back(), *view);
  }
  Tensor out = OutFor(contexts, batch);
  const Buffer device_out = UploadView(out);
  args.out = TensorView(device_out.data(), act(), {out.dim(0), out.dim(1)});
  (*kernels)->Run(stream(), args);
  Run();
  DownloadView(args.out, out.view());
  return out;
}

Tensor PagedAttentionTest::Attend(const Contexts& contexts, const std::vector<ChunkOf>& chunks) {
  int64_t rows = 0;
  for (const ChunkOf& chunk : chunks) rows += chunk.end - chunk.begin;
  const int64_t longest = *std::max_element(contexts.lengths.begin(), contexts.lengths.end());
  return Attend(contexts, chunks, AttentionLimits(contexts.shape, rows, longest));
}

Tensor PagedAttentionTest::AttendOnCpu(const Contexts& contexts,
                                       const std::vector<ChunkOf>& chunks) {
  const auto backend = MakeTestBackend({Kernels::kReference, act()});
  const auto cpu_stream = backend->CreateStream();
  WorkspaceLimits limits = TestLimits();
  limits.max_context_tokens = *std::max_element(contexts.lengths.begin(), contexts.lengths.end());
  limits.head_dim = contexts.shape.head_dim;
  EXPECT_TRUE(backend->PrepareWorkspace(limits).ok());
  const Batch batch = MakeBatch(contexts, chunks);
  Tensor out = OutFor(contexts, batch);
  PagedAttentionArgs args = ArgsOf(contexts, batch);
  args.out = out.view();
  backend->PagedAttention(*cpu_stream, args);
  return out;
}

void PagedAttentionTest::ExpectMatch(const Contexts& contexts, const std::vector<ChunkOf>& chunks) {
  const Tensor want = AttendOnCpu(contexts, chunks);
  const Tensor got = Attend(contexts, chunks);
  std::vector<double> wanted;
  std::vector<double> allowed;
  for (const float value : want.floats()) {
    wanted.push_back(value);
    // The output is a weighted mean of standard normal values. float32: sums in another order and
    // weights within 2^-22. bfloat16 rounds queries, which moves a score by about 2^-9, and weights
    // by at most 2^-9 each; then each side rounds its store.
    allowed.push_back(
        act() == DType::kFloat32 ? 3e-6 : 0x1p-7 + 2 * StoreEpsilon(act()) * std::abs(value));
  }
  ExpectClose(got.floats(), wanted, allowed, contexts.shape.Text());
}

}  // namespace moed::cuda
