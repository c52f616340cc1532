#include "runtime/checkpoint/load_plan.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "runtime/checkpoint/expected_tensors.h"
#include "runtime/checkpoint/safetensors_checkpoint.h"

namespace moed {
namespace {

int64_t MemoryBytes(const ExpectedTensor& tensor, DType dtype) {
  return tensor.num_elements() * DTypeBytes(tensor.float32_in_memory ? DType::kFloat32 : dtype);
}

// Sums over the tensors, and the shards that each rank reads.
void AddTensors(const ExpertPlacement& placement, const CheckpointIndex* index, LoadPlan& plan) {
  const int64_t source_element_bytes = DTypeBytes(plan.config.checkpoint_dtype);
  int64_t replicated_source_bytes = 0;
  std::vector<std::set<int>> shards_of_rank(plan.ranks.size());
  ForEachExpectedTensor(plan.config, [&](const ExpectedTensor& tensor) {
    const int64_t bytes = MemoryBytes(tensor, plan.options.dtype);
    const int64_t source_bytes = tensor.num_elements() * source_element_bytes;
    const int shard = index == nullptr ? -1 : index->shard_of.find(tensor.name)->second;
    plan.num_parameters += tensor.num_elements();
    plan.checkpoint_bytes += source_bytes;
    if (tensor.expert < 0) {
      plan.replicated_bytes += bytes;
      replicated_source_bytes += source_bytes;
      for (std::set<int>& shards : shards_of_rank) shards.insert(shard);
      return;
    }
    const auto rank = static_cast<size_t>(
        placement.RankOf(static_cast<int>(tensor.layer), static_cast<int>(tensor.expert)));
    plan.all_expert_bytes += bytes;
    plan.ranks[rank].expert_bytes += bytes;
    plan.ranks[rank].checkpoint_bytes += source_bytes;
    shards_of_rank[rank].insert(shard);
  });
  for (size_t rank = 0; rank < plan.ranks.size(); ++rank) {
    plan.ranks[rank].checkpoint_bytes += replicated_source_bytes;
    if (index == nullptr) continue;
    plan.ranks[rank].shards.assign(shards_of_rank[rank].begin(), shards_of_rank[rank].end());
  }
}

void AddMemory(const ExpertPlacement& placement, LoadPlan& plan) {
  const auto num_ranks = static_cast<int64_t>(plan.ranks.size());
  const int64_t sharers = plan.options.ranks_share_replicated ? num_ranks : 1;
  const auto share = [sharers](int64_t bytes) { return (bytes + sharers - 1) / sharers; };
  for (int rank = 0; rank < static_cast<int>(num_ranks); ++rank) {
    RankLoadPlan& rank_plan = plan.ranks[static_cast<size_t>(rank)];
    for (int layer = 0; layer < placement.num_layers(); ++layer) {
      rank_plan.num_experts += static_cast<int64_t>(placement.ExpertsOn(rank, layer).size());
    }
    rank_plan.weight_bytes = rank_plan.expert_bytes + share(plan.replicated_bytes);
    rank_plan.needed_bytes =
        rank_plan.weight_bytes + share(plan.rotary_bytes) + plan.options.other_bytes;
    if (!plan.options.memory_budget_bytes) continue;
    const int64_t left = *plan.options.memory_budget_bytes - rank_plan.needed_bytes;
    rank_plan.fits = left >= plan.kv_block_bytes;
    rank_plan.num_kv_blocks = std::max<int64_t>(left, 0) / plan.kv_block_bytes;
    rank_plan.num_kv_tokens = rank_plan.num_kv_blocks * plan.options.block_size;
  }
}

}  // namespace

absl::StatusOr<LoadPlan> MakeLoadPlan(const ModelConfig& config, const ExpertPlacement& placement,
                                      const CheckpointIndex* index,
                                      const LoadPlanOptions& options) {
  MOED_CHECK(options.block_size >= 1, "a KV block has at least one slot");
  if (placement.num_layers() != config.num_layers ||
      placement.num_experts() != config.num_experts) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected a placement of ", config.num_experts, " experts in ",
                     config.num_layers, " layers, found one of ", placement.num_experts(),
                     " experts in ", placement.num_layers(), " layers"));
  }
  LoadPlan plan;
  plan.config = config;
  plan.options = options;
  plan.warnings = config.warnings;
  plan.ranks.resize(static_cast<size_t>(placement.num_ranks()));
  if (index != nullptr) {
    MOED_RETURN_IF_ERROR(VerifyIndexNames(config, *index, plan.warnings));
    plan.shards = index->shards;
  }
  AddTensors(placement, index, plan);
  const int64_t expert_parameters = 3 * config.hidden * config.ffn;
  plan.num_active_parameters = plan.num_parameters - config.num_layers *
                                                         (config.num_experts - config.top_k) *
                                                         expert_parameters;
  plan.one_expert_bytes = expert_parameters * DTypeBytes(options.dtype);
  if (config.tie_word_embeddings) {  // the head is packed beside the embedding
    plan.replicated_bytes += config.vocab_size * config.hidden * DTypeBytes(options.dtype);
  }
  plan.rotary_bytes = config.max_positions * config.head_dim * DTypeBytes(DType::kFloat32);
  plan.kv_block_bytes = options.block_size * config.kv_bytes_per_token(options.dtype);
  AddMemory(placement, plan);
  if (index != nullptr && index->total_size_bytes &&
      *index->total_size_bytes != plan.checkpoint_bytes) {
    plan.warnings.push_back(absl::StrCat(index->file, ": expected a total_size of ",
                                         plan.checkpoint_bytes, " bytes from the config, found ",
                                         *index->total_size_bytes));
  }
  return plan;
}

}  // namespace moed
