// The demonstration model on rank threads, in few blocks.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "gtest/gtest.h"
#include "kernels/core/thread_pool.h"
#include "kernels/cpu/cpu_backend.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/engine/thread_worker_group.h"

namespace moed {

// Started, or nullptr. `change` may change any option before.
inline std::unique_ptr<WorkerGroup> StartDemoGroup(
    const std::function<void(ThreadWorkerGroupOptions*)>& change, WorkerGroupInfo* info) {
  auto checkpoint = Checkpoint::Open(MOED_SOURCE_DIR "/models/demo", {});
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  if (!checkpoint.ok()) return nullptr;
  ThreadWorkerGroupOptions options;
  options.config = checkpoint->metadata.config;
  options.weights = std::move(checkpoint->weights);
  const auto pool = std::make_shared<ThreadPool>(2);
  options.make_backend = [pool](int) {
    return MakeCpuBackend(
        {.isa = CpuIsa::kPortable, .activation_dtype = DType::kFloat32, .pool = pool});
  };
  options.block_size = 4;
  options.num_kv_blocks = 64;
  options.max_sequences_per_rank = 8;
  options.max_rows_per_step = 32;
  change(&options);
  auto group = std::make_unique<ThreadWorkerGroup>(std::move(options));
  auto started = group->Start([](const RankProgress&) { return true; });
  EXPECT_TRUE(started.ok()) << started.status();
  if (!started.ok()) return nullptr;
  *info = *started;
  return group;
}

}  // namespace moed
