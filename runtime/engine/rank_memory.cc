#include "runtime/engine/rank_memory.h"

#include <cstddef>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/backend.h"
#include "kernels/core/status.h"
#include "runtime/checkpoint/load_plan.h"
#include "runtime/model/kv_cache.h"
#include "runtime/model/tensor_bytes.h"

namespace moed {
namespace {

// 1234567 as "1,234,567".
std::string Grouped(int64_t bytes) {
  std::string digits = absl::StrCat(bytes);
  for (int64_t place = static_cast<int64_t>(digits.size()) - 3; place > 0; place -= 3) {
    digits.insert(static_cast<size_t>(place), 1, ',');
  }
  return digits;
}

}  // namespace

int64_t GroupMemory::total_bytes() const {
  int64_t total = 0;
  for (const int64_t bytes : {replicated_weight_bytes, expert_weight_bytes, kv_cache_bytes,
                              activation_bytes, exchange_bytes, workspace_bytes}) {
    total = AddBytes(total, bytes);
  }
  return total;
}

std::string GroupMemory::Describe() const {
  return absl::StrCat("replicated weights ", Grouped(replicated_weight_bytes), ", expert weights ",
                      Grouped(expert_weight_bytes), ", KV cache ", Grouped(kv_cache_bytes), " (",
                      num_kv_blocks_per_rank, " blocks a rank), activations ",
                      Grouped(activation_bytes), ", exchange ", Grouped(exchange_bytes),
                      ", workspace ", Grouped(workspace_bytes));
}

int64_t NumKvBlocks(const ModelConfig& config, DType activation, int64_t block_size,
                    int64_t bytes) {
  return bytes / KvCache::BlockBytes(config, activation, block_size);
}

absl::StatusOr<GroupMemory> PlanGroupMemory(const ModelConfig& config,
                                            const ExpertPlacement& placement,
                                            const Backend& backend, const WorkerLimits& limits,
                                            std::optional<int> only_rank) {
  const int num_ranks = only_rank ? 1 : placement.num_ranks();
  MOED_ASSIGN_OR_RETURN(const std::vector<int64_t> rank_bytes,
                        Worker::MemoryBytes(config, placement, backend, limits));
  const auto all_ranks = [&](MemoryKind kind) {
    return MulBytes(rank_bytes[static_cast<size_t>(kind)], num_ranks);
  };
  LoadPlanOptions plan_options;
  plan_options.dtype = backend.activation_dtype();
  plan_options.block_size = limits.block_size;
  MOED_ASSIGN_OR_RETURN(const LoadPlan weights,
                        MakeLoadPlan(config, placement, /*index=*/nullptr, plan_options));
  GroupMemory memory;
  memory.num_ranks = num_ranks;
  memory.num_kv_blocks_per_rank = limits.num_kv_blocks;
  memory.replicated_weight_bytes = AddBytes(weights.replicated_bytes, weights.rotary_bytes);
  memory.expert_weight_bytes = only_rank
                                   ? weights.ranks[static_cast<size_t>(*only_rank)].expert_bytes
                                   : weights.all_expert_bytes;
  memory.kv_cache_bytes = all_ranks(MemoryKind::kKvCache);
  memory.activation_bytes = all_ranks(MemoryKind::kActivations);
  memory.exchange_bytes = all_ranks(MemoryKind::kExchange);
  memory.workspace_bytes = all_ranks(MemoryKind::kWorkspace);
  return memory;
}

absl::Status CheckMemoryFits(const GroupMemory& memory, int64_t available_bytes) {
  if (memory.total_bytes() <= available_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "not enough memory: ", memory.num_ranks, " ranks need ", Grouped(memory.total_bytes()),
      " bytes, ", Grouped(available_bytes), " are available; ", memory.Describe()));
}

}  // namespace moed
