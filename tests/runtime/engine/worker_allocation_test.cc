// A step allocates nothing on the rank threads but the vectors of its result. This file replaces
// the global operator new of its program to count.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/engine/thread_worker_group.h"
#include "tests/runtime/engine/worker_group_fixture.h"
#include "tests/support/forwarding_backend.h"

namespace {

thread_local bool counts_allocations = false;
std::atomic<int64_t> num_allocations{0};

void* CountedAllocation(std::size_t bytes) {
  if (counts_allocations) num_allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

// Not inlined, or gcc sees free() meet the built-in operator new and warns.
[[gnu::noinline]] void FreeCounted(void* memory) { std::free(memory); }

}  // namespace

void* operator new(std::size_t bytes) { return CountedAllocation(bytes); }
void* operator new[](std::size_t bytes) { return CountedAllocation(bytes); }
// Used by the library's stable_sort. It frees with the operators below.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return CountedAllocation(bytes);
}
void operator delete(void* memory) noexcept { FreeCounted(memory); }
void operator delete[](void* memory) noexcept { FreeCounted(memory); }
void operator delete(void* memory, std::size_t) noexcept { FreeCounted(memory); }
void operator delete[](void* memory, std::size_t) noexcept { FreeCounted(memory); }

namespace moed {
namespace {

// Marks the rank's thread, which alone calls Embed, and counts host buffers as well.
class CountingBackend : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void Embed(Stream& stream, const EmbedArgs& args) override {
    counts_allocations = true;
    ForwardingBackend::Embed(stream, args);
  }
  absl::StatusOr<Buffer> Allocate(MemoryKind kind, int64_t bytes) override {
    if (counts_allocations) num_allocations.fetch_add(1, std::memory_order_relaxed);
    return ForwardingBackend::Allocate(kind, bytes);
  }
};

// A decode of one sequence a rank in a group, with the exchange of `exchange`.
std::vector<RankBatch> DecodeBatches(uint64_t step, int num_ranks, int32_t position,
                                     ExchangeStrategy exchange) {
  std::vector<RankBatch> batches = EmptyBatches(step, num_ranks);
  for (RankBatch& batch : batches) {
    batch.exchange = exchange;
    batch.padded_rows = 1;
    batch.chunks.push_back(SamplingChunk(
        0, position, {kLastSampledToken},
        position % 4 == 0 ? std::vector<int32_t>{position / 4} : std::vector<int32_t>{}));
  }
  return batches;
}

void ExpectNoAllocations(CpuIsa isa, DType dtype, ExchangeStrategy exchange) {
  constexpr int kNumRanks = 3;
  ThreadWorkerGroupOptions options = SmallGroupOptions(kNumRanks);
  options.make_backend = [isa, dtype](int) -> absl::StatusOr<std::unique_ptr<Backend>> {
    auto cpu = MakeCpuBackend({.isa = isa, .activation_dtype = dtype, .pool = nullptr});
    if (!cpu.ok()) return cpu.status();
    return std::make_unique<CountingBackend>(*std::move(cpu));
  };
  ThreadWorkerGroup group(std::move(options));
  ASSERT_TRUE(group.Start(nullptr).ok());
  std::vector<RankBatch> prompts = EmptyBatches(0, kNumRanks);
  for (RankBatch& batch : prompts) {
    SamplingParams& sampling = batch.admitted.emplace_back(GreedySlot(0)).sampling;
    sampling.frequency_penalty = 0.5F;
    sampling.repetition_penalty = 1.1F;
    sampling.bad_words = {{1, 2, 3}, {4, 5}, {6}};
    sampling.logit_bias = {{7, 1.0F}};
    batch.admitted.back().prompt_token_ids = {1, 2, 3, 4, 5, 6, 7};
    batch.chunks.push_back(SamplingChunk(0, 0, {1, 2, 3, 4, 5, 6, 7}, {0, 1}));
  }
  ASSERT_TRUE(RunStep(group, std::move(prompts)).ok());
  // Of slot 1: as many suppressed tokens as a front end can ask for.
  const auto admit = [&](uint64_t step) {
    std::vector<RankBatch> batches = EmptyBatches(step, kNumRanks);
    for (RankBatch& batch : batches) {
      batch.exchange = exchange;
      batch.padded_rows = 3;
      SlotInit& init = batch.admitted.emplace_back(GreedySlot(1));
      for (int32_t id = 0; id < 70; ++id) init.suppressed_token_ids.push_back(id);
      batch.chunks.push_back(SamplingChunk(1, 0, {1, 2, 3}, {8}));
      batch.chunks.back().suppress = true;
    }
    return RunStep(group, std::move(batches));
  };
  int32_t position = 7;
  uint64_t step = 1;
  const auto decode = [&] {
    return RunStep(group, DecodeBatches(step++, kNumRanks, position++, exchange));
  };
  ASSERT_TRUE(decode().ok());

  constexpr int kNumSteps = 20;
  const int64_t before = num_allocations.load();
  for (int i = 0; i < kNumSteps; ++i) {
    const auto results = decode();
    ASSERT_TRUE(results.ok()) << results.status();
  }
  ASSERT_TRUE(admit(step++).ok());
  // RankResult::samples, expert_counts, and two of RankResult::repetition.
  EXPECT_EQ(num_allocations.load() - before, 4 * kNumRanks * (kNumSteps + 1));
}

TEST(WorkerAllocationTest, AnExactStepAllocatesOnlyItsResult) {
  for (const CpuIsa isa : {CpuIsa::kReference, CpuIsa::kPortable, CpuIsa::kAvx512Bf16}) {
    if (!CpuSupports(isa)) continue;
    SCOPED_TRACE(CpuIsaName(isa));
    ExpectNoAllocations(isa, DType::kBFloat16, ExchangeStrategy::kExact);
  }
}

TEST(WorkerAllocationTest, AGatherStepAllocatesOnlyItsResult) {
  for (const CpuIsa isa : {CpuIsa::kReference, CpuIsa::kPortable, CpuIsa::kAvx512Bf16}) {
    if (!CpuSupports(isa)) continue;
    SCOPED_TRACE(CpuIsaName(isa));
    ExpectNoAllocations(isa, DType::kFloat32, ExchangeStrategy::kGather);
  }
}

}  // namespace
}  // namespace moed
