#include <chrono>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/core/mutex.h"
#include "kernels/core/thread_pool.h"
#include "runtime/engine/rank_memory.h"
#include "runtime/engine/thread_worker_group.h"
#include "tests/runtime/engine/worker_group_fixture.h"
#include "tests/support/forwarding_backend.h"

namespace moed {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Counts the loads of each tensor, and may answer with an error.
class WatchedSource : public WeightSource {
 public:
  absl::StatusOr<LoadedTensor> Load(absl::string_view name,
                                    const std::vector<int64_t>& shape) override {
    {
      MutexLock lock(mutex_);
      ++loads_[std::string(name)];
    }
    if (name == failing_tensor) return absl::InvalidArgumentError("bad tensor");
    return dummy_.Load(name, shape);
  }
  std::map<std::string, int> loads() const {
    MutexLock lock(mutex_);
    return loads_;
  }
  std::string failing_tensor;

 private:
  DummyWeightSource dummy_{3, DType::kFloat32};
  mutable Mutex mutex_;
  std::map<std::string, int> loads_ ABSL_GUARDED_BY(mutex_);
};

TEST(ThreadWorkerGroupStartTest, TellsWhatTheRanksSettledOn) {
  ThreadWorkerGroup group(SmallGroupOptions(3));
  const auto info = group.Start(nullptr);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->num_ranks, 3);
  EXPECT_EQ(info->exchange_ranks, 3);
  EXPECT_EQ(info->num_kv_blocks_per_rank, 16);
  EXPECT_EQ(info->max_sequences_per_rank, 4);
  EXPECT_EQ(info->max_rows_per_step, 24);
  EXPECT_EQ(info->max_gather_rows, 24);
  EXPECT_EQ(info->block_size, 4);
  EXPECT_EQ(info->num_layers, 2);
  EXPECT_EQ(info->num_experts, 4);
  EXPECT_EQ(info->experts_per_token, 2);
  EXPECT_EQ(info->max_experts_per_token, 2);  // the model's, unless more are asked for
  EXPECT_EQ(info->vocab, 96);
  EXPECT_THAT(info->backend, HasSubstr("reference"));
  EXPECT_TRUE(group.Stop());

  ThreadWorkerGroupOptions options = SmallGroupOptions(2);
  options.max_experts_per_token = 3;
  ThreadWorkerGroup wider(std::move(options));
  const auto of_wider = wider.Start(nullptr);
  ASSERT_TRUE(of_wider.ok()) << of_wider.status();
  EXPECT_EQ(of_wider->experts_per_token, 2);
  EXPECT_EQ(of_wider->max_experts_per_token, 3);
}

TEST(ThreadWorkerGroupStartTest, LoadsEveryTensorOnceForAllRanks) {
  auto source = std::make_shared<WatchedSource>();
  ThreadWorkerGroupOptions options = SmallGroupOptions(3);
  options.weights = source;
  ThreadWorkerGroup group(std::move(options));
  ASSERT_TRUE(group.Start(nullptr).ok());
  const std::map<std::string, int> loads = source->loads();
  // 3 outside the layers; a layer has 2 norms, q, k, v, o, the router and 3 matrices an expert.
  EXPECT_EQ(loads.size(), 3U + 2U * (7 + 3 * 4));
  for (const auto& [name, count] : loads) EXPECT_EQ(count, 1) << name;
}

TEST(ThreadWorkerGroupStartTest, ReportsEveryPhaseOfEveryRank) {
  ThreadWorkerGroup group(SmallGroupOptions(3));
  std::map<std::pair<int, std::string>, double> fractions;
  const auto info = group.Start([&fractions](const RankProgress& progress) {
    double& fraction = fractions[{progress.rank, progress.phase}];
    EXPECT_GE(progress.fraction, fraction) << progress.phase;
    EXPECT_LE(progress.fraction, 1.0) << progress.phase;
    fraction = progress.fraction;
    return true;
  });
  ASSERT_TRUE(info.ok()) << info.status();
  for (int rank = 0; rank < 3; ++rank) {
    for (const char* phase : {"replicated weights", "expert weights", "kv cache", "ready"}) {
      const auto found = fractions.find({rank, phase});
      ASSERT_NE(found, fractions.end()) << "rank " << rank << ", " << phase;
      EXPECT_EQ(found->second, 1.0) << "rank " << rank << ", " << phase;
    }
  }
}

TEST(ThreadWorkerGroupStartTest, EndsCancelledWhenProgressSaysSo) {
  ThreadWorkerGroup group(SmallGroupOptions(3));
  const auto info = group.Start([](const RankProgress& progress) {
    return std::string(progress.phase) != "expert weights" || progress.rank != 1;
  });
  EXPECT_EQ(info.status().code(), absl::StatusCode::kCancelled) << info.status();
}

TEST(ThreadWorkerGroupStartTest, GivesTheCheckpointsErrorAsItIs) {
  for (const char* tensor :
       {"model.norm.weight", "model.layers.1.block_sparse_moe.experts.3.w2.weight"}) {
    auto source = std::make_shared<WatchedSource>();
    source->failing_tensor = tensor;
    ThreadWorkerGroupOptions options = SmallGroupOptions(2);
    options.weights = source;
    ThreadWorkerGroup group(std::move(options));
    EXPECT_EQ(group.Start(nullptr).status(), absl::InvalidArgumentError("bad tensor")) << tensor;
  }
}

TEST(ThreadWorkerGroupStartTest, AGroupThatCannotBeMadeEndsTheStartAtOnce) {
  ThreadWorkerGroupOptions options = SmallGroupOptions(3);
  options.make_group = [](int, auto) { return absl::InternalError("no group"); };
  options.rank_timeout = std::chrono::hours(1);  // what a thread that is waited for would take
  ThreadWorkerGroup group(std::move(options));
  EXPECT_EQ(group.Start(nullptr).status(), absl::InternalError("no group"));
  EXPECT_TRUE(group.Stop());
}

TEST(ThreadWorkerGroupStartTest, AllocatesWhatItPlanned) {
  for (const int num_ranks : {1, 3, 5}) {
    ThreadWorkerGroupOptions options = SmallGroupOptions(num_ranks);
    if (num_ranks > 1) options.max_experts_per_token = 4;
    if (num_ranks > 3) options.capacity_factor = 1.5;
    ThreadWorkerGroup group(std::move(options));
    ASSERT_TRUE(group.Start(nullptr).ok());
    std::map<MemoryKind, int64_t> bytes;
    for (int rank = 0; rank < num_ranks; ++rank) {
      for (int kind = 0; kind < kNumMemoryKinds; ++kind) {
        bytes[MemoryKind{static_cast<uint8_t>(kind)}] +=
            group.allocated_bytes(rank, MemoryKind{static_cast<uint8_t>(kind)});
      }
    }
    const GroupMemory& plan = group.memory();
    EXPECT_EQ(bytes[MemoryKind::kWeights], plan.replicated_weight_bytes + plan.expert_weight_bytes);
    EXPECT_EQ(bytes[MemoryKind::kKvCache], plan.kv_cache_bytes);
    EXPECT_EQ(bytes[MemoryKind::kActivations], plan.activation_bytes);
    EXPECT_EQ(bytes[MemoryKind::kExchange], plan.exchange_bytes);
    EXPECT_EQ(bytes[MemoryKind::kWorkspace], plan.workspace_bytes);
  }
}

TEST(ThreadWorkerGroupStartTest, PlansTheWorkspaceOfEveryRanksKernels) {
  for (const DType act : {DType::kFloat32, DType::kBFloat16}) {
    ThreadWorkerGroupOptions options = SmallGroupOptions(2);
    options.make_backend = [act, pool = std::make_shared<ThreadPool>(3)](int) {
      return MakeCpuBackend({.isa = CpuIsa::kPortable, .activation_dtype = act, .pool = pool});
    };
    ThreadWorkerGroup group(options);
    ASSERT_TRUE(group.Start(nullptr).ok());
    const int64_t allocated = group.allocated_bytes(0, MemoryKind::kWorkspace) +
                              group.allocated_bytes(1, MemoryKind::kWorkspace);
    EXPECT_GT(allocated, 0);
    EXPECT_EQ(group.memory().workspace_bytes, allocated) << DTypeName(act);
  }
}

// Fails the test when anything is allocated.
class UntouchableBackend : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  absl::StatusOr<Buffer> Allocate(MemoryKind, int64_t bytes) override {
    ADD_FAILURE() << bytes << " bytes are allocated";
    return absl::ResourceExhaustedError("none");
  }
};

TEST(ThreadWorkerGroupStartTest, RefusesWhatDoesNotFitBeforeItAllocates) {
  ThreadWorkerGroup fits(SmallGroupOptions(2));
  ASSERT_TRUE(fits.Start(nullptr).ok());
  const int64_t needed = fits.memory().total_bytes();

  ThreadWorkerGroupOptions options = SmallGroupOptions(2);
  options.available_memory_bytes = needed;
  EXPECT_TRUE(ThreadWorkerGroup(options).Start(nullptr).ok());

  options.available_memory_bytes = needed - 1;
  options.make_backend = [](int) -> absl::StatusOr<std::unique_ptr<Backend>> {
    return std::make_unique<UntouchableBackend>(*MakeSmallBackend());
  };
  const absl::Status refused = ThreadWorkerGroup(options).Start(nullptr).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(
      std::string(refused.message()),
      AllOf(HasSubstr("2 ranks need"), HasSubstr("replicated weights"), HasSubstr("expert weights"),
            HasSubstr("KV cache"), HasSubstr("(16 blocks a rank)"), HasSubstr("activations"),
            HasSubstr("exchange"), HasSubstr("workspace")));
}

TEST(ThreadWorkerGroupStartTest, FillsTheBytesOfTheKvCacheWithWholeBlocks) {
  ThreadWorkerGroupOptions options = SmallGroupOptions(1);
  options.num_kv_blocks = 0;
  // A block: keys and values, 2 layers, 4 tokens of 8 float32.
  options.kv_cache_bytes = 7 * (2 * 2 * 4 * 8 * 4) + 1;
  ThreadWorkerGroup group(options);
  const auto info = group.Start(nullptr);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->num_kv_blocks_per_rank, 7);

  options.kv_cache_bytes = 100;
  const absl::Status refused = ThreadWorkerGroup(options).Start(nullptr).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("kv_cache_bytes 100"));
}

TEST(ThreadWorkerGroupStartTest, NamesTheOptionThatIsOutOfRange) {
  const auto refusal = [](void (*change)(ThreadWorkerGroupOptions&)) {
    ThreadWorkerGroupOptions options = SmallGroupOptions(2);
    change(options);
    const absl::Status status = ThreadWorkerGroup(options).Start(nullptr).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(refusal([](auto& o) { o.num_ranks = 0; }), HasSubstr("num_ranks is 0"));
  EXPECT_THAT(refusal([](auto& o) { o.block_size = -1; }), HasSubstr("block_size is -1"));
  EXPECT_THAT(refusal([](auto& o) { o.num_kv_blocks = -1; }), HasSubstr("num_kv_blocks is -1"));
  EXPECT_THAT(refusal([](auto& o) { o.num_kv_blocks = int64_t{1} << 40; }),
              HasSubstr("num_kv_blocks"));
  EXPECT_THAT(refusal([](auto& o) { o.max_sequences_per_rank = 0; }),
              HasSubstr("max_sequences_per_rank is 0"));
  EXPECT_THAT(refusal([](auto& o) { o.max_rows_per_step = 0; }),
              HasSubstr("max_rows_per_step is 0"));
  EXPECT_THAT(refusal([](auto& o) { o.max_gather_rows = -1; }), HasSubstr("max_gather_rows is -1"));
  EXPECT_THAT(refusal([](auto& o) { o.rank_timeout = std::chrono::milliseconds(0); }),
              HasSubstr("rank_timeout"));
  EXPECT_THAT(refusal([](auto& o) { o.max_experts_per_token = 1; }),
              HasSubstr("max_experts_per_token is 1, expected 0 or 2 (the model's) to 4 (all)"));
  EXPECT_THAT(refusal([](auto& o) { o.max_experts_per_token = 5; }),
              HasSubstr("max_experts_per_token is 5"));
  EXPECT_THAT(refusal([](auto& o) { o.capacity_factor = -0.5; }),
              HasSubstr("capacity_factor is -0.5"));
  EXPECT_THAT(refusal([](auto& o) { o.capacity_factor = std::nan(""); }),
              HasSubstr("capacity_factor is nan"));
}

TEST(ThreadWorkerGroupStartTest, IdleGroupStops) {
  ThreadWorkerGroup group(SmallGroupOptions(4));
  ASSERT_TRUE(group.Start(nullptr).ok());
  EXPECT_TRUE(group.Stop());
  EXPECT_TRUE(group.Stop());
}

}  // namespace
}  // namespace moed
