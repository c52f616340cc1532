#include "server/app/dry_run.h"

#include <cstddef>
#include <optional>

#include "kernels/core/status.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/load_plan.h"
#include "server/app/compute_device.h"
#include "server/app/model_options.h"

namespace moed {

absl::StatusOr<std::string> DryRun(const DaemonOptions& options) {
  MOED_ASSIGN_OR_RETURN(const LoadFormat format, ParseLoadFormat(options.load_format));
  MOED_ASSIGN_OR_RETURN(const CheckpointMetadata metadata,
                        ReadCheckpointMetadata(options.model, format));
  const ModelConfig& config = metadata.config;
  LoadPlanOptions plan_options;
  MOED_ASSIGN_OR_RETURN(plan_options.dtype, ActivationDType(options, config));
  plan_options.block_size = options.block_size;
  if (options.rank_memory_bytes > 0) plan_options.memory_budget_bytes = options.rank_memory_bytes;
  MOED_ASSIGN_OR_RETURN(const std::optional<EmulatedRankOption> emulated,
                        ParseEmulatedRank(options.emulate_rank));
  const ExpertPlacement placement = ExpertPlacement::Even(
      static_cast<int>(config.num_layers), static_cast<int>(config.num_experts),
      emulated ? emulated->num_ranks : options.ranks);
  MOED_ASSIGN_OR_RETURN(
      LoadPlan plan,
      MakeLoadPlan(config, placement, metadata.index.has_value() ? &*metadata.index : nullptr,
                   plan_options));
  // The others of its group are not here to need memory.
  if (emulated) plan.ranks = {plan.ranks[static_cast<size_t>(emulated->rank)]};
  plan.warnings.insert(plan.warnings.begin(), metadata.warnings.begin(), metadata.warnings.end());
  return FormatLoadPlan(plan);
}

}  // namespace moed
