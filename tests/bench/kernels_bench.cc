// Speed of the CPU kernels at the shapes of a model with hidden 1024 and ffn 3584, beside the read
// bandwidth of the same threads: items/s are floating-point operations, bytes/s weight bytes.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "benchmark/benchmark.h"
#include "kernels/cpu/cpu_backend.h"

namespace moed {
namespace {

constexpr int64_t kHidden = 1024;
constexpr int64_t kFfn = 3584;
constexpr int64_t kCacheBytes = int64_t{512} << 20;  // weights are spread over more than any cache

int NumThreads() { return static_cast<int>(std::max(1U, std::thread::hardware_concurrency())); }

std::unique_ptr<Backend> MakeBackend(DType act) {
  auto isa = ParseCpuIsa("auto");
  auto backend = MakeCpuBackend({*isa, act, std::make_shared<ThreadPool>(NumThreads())});
  WorkspaceLimits limits;
  limits.max_rows = limits.max_expert_rows = limits.max_logit_rows = 512;
  limits.max_context_tokens = 32768;
  limits.hidden = kHidden;
  limits.ffn = kFfn;
  limits.vocab = 32000;
  limits.num_heads = 16;
  limits.num_kv_heads = 4;
  limits.head_dim = 64;
  limits.num_experts = 64;
  limits.top_k = 2;
  if (!(*backend)->PrepareWorkspace(limits).ok()) std::abort();
  return *std::move(backend);
}

// `count` small positive values.
Buffer Fill(Backend& backend, DType dtype, int64_t count) {
  Buffer buffer = *backend.Allocate(MemoryKind::kActivations, count * DTypeBytes(dtype));
  for (int64_t i = 0; i < count; ++i) {
    const float value = static_cast<float>((i * 2654435761U) % 1000) * 1e-4F;
    if (dtype == DType::kFloat32) {
      static_cast<float*>(buffer.data())[i] = value;
    } else {
      static_cast<BFloat16*>(buffer.data())[i] = ToBFloat16(value);
    }
  }
  return buffer;
}

void ReadBandwidth(benchmark::State& state) {
  ThreadPool pool(NumThreads());
  const Buffer memory = *AllocateHostBuffer(kCacheBytes);
  const auto* words = static_cast<const uint64_t*>(memory.data());
  constexpr int64_t kPieceBytes = int64_t{1} << 20;
  for (auto _ : state) {
    pool.ParallelFor(kCacheBytes / kPieceBytes, 8, [&](int64_t begin, int64_t end) {
      uint64_t sum[8] = {};
      for (int64_t i = begin * kPieceBytes / 8; i < end * kPieceBytes / 8; i += 8) {
        for (int j = 0; j < 8; ++j) sum[j] ^= words[i + j];
      }
      for (const uint64_t part : sum) benchmark::DoNotOptimize(part);
    });
  }
  state.SetBytesProcessed(state.iterations() * kCacheBytes);
}
BENCHMARK(ReadBandwidth)->UseRealTime()->Unit(benchmark::kMillisecond);

// Args: rows, out_features, in_features. Each iteration takes the next of many copies.
void LinearBf16(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const int64_t out_features = state.range(1);
  const int64_t in_features = state.range(2);
  auto backend = MakeBackend(DType::kBFloat16);
  const auto stream = backend->CreateStream();
  const Buffer source = Fill(*backend, DType::kBFloat16, out_features * in_features);
  std::vector<std::unique_ptr<LinearWeight>> weights;
  const int64_t copies = std::max<int64_t>(1, kCacheBytes / (out_features * in_features * 2));
  for (int64_t i = 0; i < copies; ++i) {
    weights.push_back(
        *backend->PackLinear({source.View(DType::kBFloat16, {out_features, in_features})}));
  }
  const Buffer x = Fill(*backend, DType::kBFloat16, rows * in_features);
  const Buffer out = *backend->Allocate(MemoryKind::kActivations, rows * out_features * 4);
  size_t next = 0;
  for (auto _ : state) {
    backend->Linear(*stream, {x.View(DType::kBFloat16, {rows, in_features}), weights[next].get(),
                              false, out.View(DType::kFloat32, {rows, out_features})});
    next = (next + 1) % weights.size();
  }
  state.SetItemsProcessed(state.iterations() * 2 * rows * out_features * in_features);
  state.SetBytesProcessed(state.iterations() * weights[0]->bytes());
}
BENCHMARK(LinearBf16)
    ->ArgsProduct({{1, 8, 12, 48, 512}, {kHidden}, {kHidden}})
    ->ArgsProduct({{1, 8, 12, 48, 512}, {kFfn}, {kHidden}})
    ->ArgsProduct({{1, 8, 12, 48, 512}, {kHidden}, {kFfn}})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

// Args: rows of each of 8 experts, two of them if 1.
void ExpertFfnBf16(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const int64_t active = rows == 1 ? 2 : 8;
  auto backend = MakeBackend(DType::kBFloat16);
  const auto stream = backend->CreateStream();
  const Buffer source = Fill(*backend, DType::kBFloat16, kFfn * kHidden);
  const TensorView up = source.View(DType::kBFloat16, {kFfn, kHidden});
  const TensorView down = source.View(DType::kBFloat16, {kHidden, kFfn});
  std::vector<std::unique_ptr<ExpertWeight>> packed;
  std::vector<const ExpertWeight*> experts;
  for (int64_t e = 0; e < 24; ++e) {
    packed.push_back(*backend->PackExpert(up, down, up));
    experts.push_back(packed.back().get());
  }
  const int64_t pairs = rows * active;
  const Buffer x = Fill(*backend, DType::kBFloat16, pairs * kHidden);
  const Buffer out = *backend->Allocate(MemoryKind::kActivations, pairs * kHidden * 2);
  std::vector<int32_t> offsets;
  for (int64_t e = 0; e <= active; ++e) offsets.push_back(static_cast<int32_t>(e * rows));
  std::vector<int32_t> index;
  for (int64_t i = 0; i < pairs; ++i) index.push_back(static_cast<int32_t>(i));
  int64_t next = 0;
  for (auto _ : state) {
    backend->ExpertFfn(*stream, {x.View(DType::kBFloat16, {pairs, kHidden}),
                                 absl::MakeConstSpan(experts).subspan(static_cast<size_t>(next),
                                                                      static_cast<size_t>(active)),
                                 ConstTensorView(offsets.data(), DType::kInt32, {active + 1}),
                                 ConstTensorView(index.data(), DType::kInt32, {pairs}),
                                 ConstTensorView(index.data(), DType::kInt32, {pairs}),
                                 out.View(DType::kBFloat16, {pairs, kHidden})});
    next = (next + active) % 24;
  }
  state.SetItemsProcessed(state.iterations() * pairs * 6 * kHidden * kFfn);
  state.SetBytesProcessed(state.iterations() * active * packed[0]->bytes());
}
BENCHMARK(ExpertFfnBf16)
    ->Arg(1)
    ->Arg(2)
    ->Arg(8)
    ->Arg(128)
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

// Args: tokens of the chunk, length of the context; 16 heads, 4 KV heads, head_dim 64.
void AttentionBf16(benchmark::State& state) {
  const int64_t tokens = state.range(0);
  const int64_t length = state.range(1);
  const int64_t num_blocks = length / 16;
  auto backend = MakeBackend(DType::kBFloat16);
  const auto stream = backend->CreateStream();
  const Buffer q = Fill(*backend, DType::kFloat32, tokens * kHidden);
  const Buffer k = Fill(*backend, DType::kBFloat16, length * 256);
  const Buffer v = Fill(*backend, DType::kBFloat16, length * 256);
  const Buffer out = *backend->Allocate(MemoryKind::kActivations, tokens * kHidden * 2);
  std::vector<int32_t> table;
  for (int64_t b = 0; b < num_blocks; ++b) table.push_back(static_cast<int32_t>(b));
  const int32_t starts[] = {0, static_cast<int32_t>(tokens)};
  const int32_t context = static_cast<int32_t>(length);
  for (auto _ : state) {
    backend->PagedAttention(*stream, {q.View(DType::kFloat32, {tokens, 16, 64}),
                                      k.View(DType::kBFloat16, {num_blocks, 4, 16, 64}),
                                      v.View(DType::kBFloat16, {num_blocks, 4, 16, 64}),
                                      ConstTensorView(starts, DType::kInt32, {2}),
                                      ConstTensorView(&context, DType::kInt32, {1}),
                                      ConstTensorView(table.data(), DType::kInt32, {1, num_blocks}),
                                      0.125F, 0, out.View(DType::kBFloat16, {tokens, kHidden})});
  }
  const int64_t pairs = tokens * length - tokens * (tokens - 1) / 2;
  state.SetItemsProcessed(state.iterations() * 4 * pairs * kHidden);
  state.SetBytesProcessed(state.iterations() * length * 256 * 2 * 2);
}
BENCHMARK(AttentionBf16)
    ->Args({1, 1024})
    ->Args({1, 16384})
    ->Args({512, 512})
    ->Args({512, 16384})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

// What a row of SampleRows asks for.
enum SampleKind : int {
  kGreedy,
  kGreedyPenalties,  // of 2,048 seen tokens
  kTemperature,
  kTemperaturePenalties,
  kTopP,
  kTopPPenalties,
  kTopPBias,   // 300 biased and 300 suppressed tokens
  kTopPAllow,  // 1,000 allowed tokens
  kTypical,
  kNumSampleKinds,
};
const char* const kSampleKindNames[kNumSampleKinds] = {
    "greedy",   "greedy, penalties", "temperature", "temperature, penalties",
    "top_p",    "top_p, penalties",  "top_p, bias", "top_p, allow list",
    "typical_p"};

struct SampleLists {
  std::vector<SeenToken> seen;
  std::vector<TokenBias> biases;
  std::vector<int32_t> allowed;
  std::vector<int32_t> suppressed;
};

SampleLists MakeSampleLists(int64_t vocab) {
  SampleLists lists;
  for (int64_t i = 0; i < 2048; ++i) {
    const auto id = static_cast<int32_t>(i * 7919 % vocab);  // in no order of memory
    lists.seen.push_back({id, static_cast<int32_t>(i % 3), true});
    if (i < 300) lists.biases.push_back({id, 1.0F});
    if (i < 1000) lists.allowed.push_back(id);
    if (i >= 1000 && i < 1300) lists.suppressed.push_back(id);
  }
  return lists;
}

SamplingRow MakeSamplingRow(int kind, const SampleLists& lists) {
  SamplingRow row;
  if (kind == kGreedy || kind == kGreedyPenalties) row.temperature = 0;
  if (kind >= kTopP && kind <= kTopPAllow) row.top_p = 0.95F;
  if (kind == kTypical) row.typical_p = 0.95F;
  if (kind == kGreedyPenalties || kind == kTemperaturePenalties || kind == kTopPPenalties) {
    row.repetition_penalty = 1.1F;
    row.frequency_penalty = 0.2F;
    row.presence_penalty = 0.2F;
    row.seen = lists.seen;
  }
  if (kind == kTopPBias) {
    row.logit_bias = lists.biases;
    row.suppressed_token_ids = lists.suppressed;
  }
  if (kind == kTopPAllow) row.allowed_token_ids = lists.allowed;
  return row;
}

// Args: rows, kind; a vocabulary of 32,000.
void SampleRows(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const auto kind = static_cast<int>(state.range(1));
  constexpr int64_t kVocab = 32000;
  auto backend = MakeBackend(DType::kBFloat16);
  const auto stream = backend->CreateStream();
  const Buffer logits = Fill(*backend, DType::kFloat32, rows * kVocab);
  auto* values = static_cast<float*>(logits.data());
  for (int64_t i = 0; i < rows * kVocab; ++i) values[i] = (values[i] - 0.05F) * 200;
  const Buffer ints = *backend->Allocate(MemoryKind::kActivations, rows * 4 * 4);
  const SampleLists lists = MakeSampleLists(kVocab);
  std::vector<SamplingRow> sampling(static_cast<size_t>(rows), MakeSamplingRow(kind, lists));
  for (int64_t i = 0; i < rows; ++i) {
    sampling[static_cast<size_t>(i)].slot = static_cast<int32_t>(i);
    sampling[static_cast<size_t>(i)].seed = static_cast<uint64_t>(i);
  }
  std::vector<int32_t> tokens(static_cast<size_t>(rows));
  std::vector<float> logprobs(static_cast<size_t>(rows));
  for (auto _ : state) {
    backend->Sample(
        *stream,
        {logits.View(DType::kFloat32, {rows, kVocab}), sampling, ints.View(DType::kInt32, {rows}),
         TensorView(tokens.data(), DType::kInt32, {rows}),
         TensorView(logprobs.data(), DType::kFloat32, {rows}), TensorView(), TensorView(), false});
  }
  state.SetLabel(kSampleKindNames[kind]);
}
BENCHMARK(SampleRows)
    ->ArgsProduct({{1, 32}, benchmark::CreateDenseRange(0, kNumSampleKinds - 1, 1)})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace moed

BENCHMARK_MAIN();
