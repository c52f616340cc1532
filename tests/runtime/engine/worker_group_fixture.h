// A small model on rank threads, for tests that lay out every batch.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/core/dtype.h"
#include "kernels/cpu/cpu_backend.h"
#include "runtime/checkpoint/dummy_weight_source.h"
#include "runtime/checkpoint/model_config.h"
#include "runtime/engine/thread_worker_group.h"
#include "runtime/schedule/batch_plan.h"

namespace moed {

inline ModelConfig SmallConfig() {
  ModelConfig config;
  config.architecture = "MixtralForCausalLM";
  config.vocab_size = 96;
  config.hidden = 16;
  config.ffn = 24;
  config.num_layers = 2;
  config.num_heads = 2;
  config.num_kv_heads = 1;
  config.head_dim = 8;
  config.num_experts = 4;
  config.top_k = 2;
  config.max_positions = 128;
  config.rope_theta = 1e4;
  config.rms_epsilon = 1e-5;
  return config;
}

inline absl::StatusOr<std::unique_ptr<Backend>> MakeSmallBackend() {
  return MakeCpuBackend(
      {.isa = CpuIsa::kReference, .activation_dtype = DType::kFloat32, .pool = nullptr});
}

inline ThreadWorkerGroupOptions SmallGroupOptions(int num_ranks) {
  ThreadWorkerGroupOptions options;
  options.config = SmallConfig();
  options.weights = std::make_shared<DummyWeightSource>(/*seed=*/3, DType::kFloat32);
  options.make_backend = [](int) { return MakeSmallBackend(); };
  options.num_ranks = num_ranks;
  options.block_size = 4;
  options.num_kv_blocks = 16;
  options.max_sequences_per_rank = 4;
  options.max_rows_per_step = 24;
  options.max_gather_rows = 24;
  return options;
}

// A chunk that draws a token after its last one.
inline SequenceChunk SamplingChunk(int32_t slot, int32_t start_position,
                                   std::vector<int32_t> tokens, std::vector<int32_t> new_blocks) {
  SequenceChunk chunk;
  chunk.slot = slot;
  chunk.start_position = start_position;
  chunk.tokens = std::move(tokens);
  chunk.new_blocks = std::move(new_blocks);
  chunk.sample = true;
  return chunk;
}

inline SlotInit GreedySlot(int32_t slot) {
  SlotInit init;
  init.slot = slot;
  init.sampling.temperature = 0;
  return init;
}

// One empty batch a rank.
inline std::vector<RankBatch> EmptyBatches(uint64_t step, int num_ranks) {
  std::vector<RankBatch> batches(static_cast<size_t>(num_ranks));
  for (RankBatch& batch : batches) batch.step = step;
  return batches;
}

// On rank 0 a prompt of three tokens in slot 0; the other ranks are idle.
inline std::vector<RankBatch> OnePromptOnRankZero(uint64_t step, int num_ranks) {
  std::vector<RankBatch> batches = EmptyBatches(step, num_ranks);
  batches[0].admitted.push_back(GreedySlot(0));
  batches[0].chunks.push_back(SamplingChunk(0, 0, {5, 6, 7}, {2}));
  return batches;
}

inline absl::StatusOr<std::vector<RankResult>> RunStep(ThreadWorkerGroup& group,
                                                       std::vector<RankBatch> batches) {
  const absl::Status launched = group.Launch(std::move(batches));
  if (!launched.ok()) return launched;
  return group.Await();
}

}  // namespace moed
