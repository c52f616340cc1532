// A step allocates nothing: operator new and the memory functions behind it are counted while a
// sequence of operations runs for the second time.
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <new>
#include <numeric>

#include "tests/kernels/cpu/kernel_test.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<int> allocations{0};

void* CountedAllocation(std::size_t size, std::size_t alignment) {
  if (counting.load(std::memory_order_relaxed)) ++allocations;
  void* memory = std::aligned_alloc(alignment, (size + alignment) / alignment * alignment);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

void* operator new(std::size_t size) { return CountedAllocation(size, 16); }
void* operator new[](std::size_t size) { return CountedAllocation(size, 16); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return CountedAllocation(size, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace moed {
namespace {

class SteadyStateTest : public testing::TestWithParam<KernelCase> {};
INSTANTIATE_TEST_SUITE_P(Kernels, SteadyStateTest, testing::ValuesIn(AllKernelCases()),
                         KernelCaseName);

TEST_P(SteadyStateTest, OperationsAllocateNothing) {
  const auto backend = MakeTestBackend(GetParam(), 2);
  if (backend == nullptr) GTEST_SKIP() << "this CPU lacks the instruction set";
  const auto stream = backend->CreateStream();
  const DType act = GetParam().act;
  const int64_t rows = 150;
  const int64_t hidden = 64;
  const Tensor table = Tensor::Random(act, {100, hidden}, 1);
  const Tensor norm = Tensor::Random(DType::kFloat32, {hidden}, 2);
  const Tensor router = Tensor::Random(DType::kFloat32, {4, hidden}, 3);
  const auto qkv_weight = *backend->PackLinear({Tensor::Random(act, {8 * 16, hidden}, 4)});
  const auto head = *backend->PackLinear({Tensor::Random(act, {1000, hidden}, 5)});
  std::vector<std::unique_ptr<ExpertWeight>> packed;
  std::vector<const ExpertWeight*> experts;
  for (uint32_t e = 0; e < 4; ++e) {
    packed.push_back(*backend->PackExpert(Tensor::Random(act, {96, hidden}, 10 + e),
                                          Tensor::Random(act, {hidden, 96}, 20 + e),
                                          Tensor::Random(act, {96, hidden}, 30 + e)));
    experts.push_back(packed.back().get());
  }
  std::vector<int32_t> ids;
  for (int32_t t = 0; t < rows; ++t) ids.push_back(t % 100);
  std::vector<int32_t> positions;
  for (int32_t t = 0; t < rows; ++t) positions.push_back(t);
  const Tensor tokens = Tensor::Ints({rows}, ids);
  const Tensor places = Tensor::Ints({rows}, positions);
  const Tensor cos_sin = Tensor::Random(DType::kFloat32, {256, 16}, 6);
  const Tensor starts = Tensor::Ints({2}, {0, static_cast<int32_t>(rows)});
  const Tensor lengths = Tensor::Ints({1}, {static_cast<int32_t>(rows)});
  const Tensor blocks = Tensor::Ints({1, 10}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  const Tensor local = Tensor::Ints({4}, {0, 1, 2, 3});
  const Tensor one_rank = Tensor::Ints({4}, {0, 0, 0, 0});
  Tensor last_sampled(DType::kInt32, {8});
  Tensor x(DType::kFloat32, {rows, hidden});
  Tensor normed(act, {rows, hidden});
  Tensor qkv(DType::kFloat32, {rows, 8 * 16});
  Tensor q(DType::kFloat32, {rows, 4, 16});
  Tensor k_cache(act, {10, 2, 16, 16});
  Tensor v_cache(act, {10, 2, 16, 16});
  Tensor attended(act, {rows, 64});
  const Tensor num_choices = Tensor::Ints({rows}, std::vector<int32_t>(rows, 2));
  Tensor topk_ids(DType::kInt32, {rows, 2});
  Tensor dropped(DType::kInt32, {rows});
  Tensor topk_weights(DType::kFloat32, {rows, 2});
  std::vector<int64_t> counts(4);
  Tensor send_rows(DType::kInt32, {rows});
  Tensor sends(DType::kInt32, {1});
  Tensor replies(DType::kInt32, {1});
  Tensor contribution_index(DType::kInt32, {rows, 2});
  Tensor offsets(DType::kInt32, {5});
  Tensor row_index(DType::kInt32, {rows * 2});
  Tensor out_index(DType::kInt32, {rows * 2});
  Tensor contributions(act, {rows * 2, hidden});
  Tensor logits(DType::kFloat32, {4, 1000});
  Tensor token_ids(DType::kInt32, {4});
  Tensor logprobs(DType::kFloat32, {4});
  Tensor top_ids(DType::kInt32, {4, kMaxLogprobs});
  Tensor top_logprobs(DType::kFloat32, {4, kMaxLogprobs});
  std::vector<SamplingRow> sampling(4);
  sampling[0].temperature = 0;
  sampling[1].top_p = 0.5F;
  sampling[2].top_k = 7;
  const std::vector<SeenToken> seen = {{3, 2, true}, {900, 0, true}};
  const std::vector<TokenBias> biases = {{3, 1.0F}, {7, -1.0F}};
  std::vector<int32_t> allowed(700);
  std::iota(allowed.begin(), allowed.end(), 0);
  const std::vector<int32_t> suppressed = {1, 2};
  sampling[3].repetition_penalty = 1.2F;
  sampling[3].presence_penalty = 0.5F;
  sampling[3].typical_p = 0.9F;
  sampling[3].seen = seen;
  sampling[3].logit_bias = biases;
  sampling[3].allowed_token_ids = allowed;
  sampling[3].suppressed_token_ids = suppressed;
  const TensorView normed_view = normed.view();

  const auto step = [&] {
    Backend& b = *backend;
    Stream& s = *stream;
    b.Embed(s, {tokens, last_sampled, table, x.view()});
    b.RmsNorm(s, {x, {}, norm, 1e-5F, normed.view()});
    b.Linear(s, {normed, qkv_weight.get(), false, qkv.view()});
    b.RotaryCacheWrite(s, {qkv, places, places, cos_sin, q.view(), k_cache.view(), v_cache.view()});
    b.PagedAttention(s, {q, k_cache, v_cache, starts, lengths, blocks, 0.25F, 0, attended.view()});
    b.Route(s, {normed, router, RouterScoring::kTopKThenSoftmax, num_choices, topk_ids.view(),
                topk_weights.view()});
    b.LimitLoad(s, {60, 4, topk_ids.view(), dropped.view()});
    b.CountChoices(s, {topk_ids, TensorView(counts.data(), DType::kInt64, {4})});
    b.PlanSend(s, {topk_ids, one_rank, send_rows.view(), sends.view(), replies.view(),
                   contribution_index.view()});
    b.GatherRows(s, {table, tokens, attended.view()});
    b.GroupByExpert(s, {topk_ids, local, 0, offsets.view(), row_index.view(), out_index.view()});
    b.ExpertFfn(s, {normed, experts, offsets, row_index, out_index, contributions.view()});
    b.Combine(s, {contributions, contribution_index, topk_weights, x.view()});
    b.Linear(s, {normed_view.Rows(0, 4), head.get(), false, logits.view()});
    b.Sample(s, {logits, sampling, last_sampled.view(), token_ids.view(), logprobs.view(),
                 top_ids.view(), top_logprobs.view(), true});
    b.TokenLogprobs(s, {logits, token_ids, logprobs.view(), top_ids.view(), top_logprobs.view()});
  };
  step();
  allocations = 0;
  counting = true;
  step();
  counting = false;
  EXPECT_EQ(allocations, 0);
}

}  // namespace
}  // namespace moed
