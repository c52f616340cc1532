#include "server/app/model_start.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/engine/engine_impl.h"
#include "runtime/engine/thread_worker_group.h"
#include "server/app/model_options.h"
#include "server/app/null_model.h"
#include "server/app/start_report.h"

namespace moed {
namespace {

// The part of the model that answers without computing.
absl::StatusOr<std::shared_ptr<ServedModel>> DescribeModel(const DaemonOptions& options,
                                                           const CheckpointMetadata& metadata) {
  auto model = std::make_shared<ServedModel>();
  model->name = ModelName(options);
  model->config = metadata.config;
  model->defaults = metadata.generation;
  model->num_ranks = options.ranks;
  model->block_tokens = static_cast<int32_t>(options.block_size);
  MOED_ASSIGN_OR_RETURN(model->dtype, ActivationDType(options, metadata.config));
  if (!metadata.tokenizer_path.has_value()) return model;
  MOED_ASSIGN_OR_RETURN(model->tokenizer, Tokenizer::Load(*metadata.tokenizer_path));
  if (model->tokenizer->vocab_size() > model->config.vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat(*metadata.tokenizer_path, ": ", model->tokenizer->vocab_size(),
                     " pieces, but config.json says vocab_size ", model->config.vocab_size));
  }
  absl::StatusOr<ChatFormat> chat = ChatFormat::MistralV1(model->tokenizer.get());
  if (chat.ok()) model->chat_format = *std::move(chat);
  return model;
}

std::vector<RankDescription> DescribeRanks(const ThreadWorkerGroup& group, int num_ranks) {
  std::vector<RankDescription> ranks(static_cast<size_t>(num_ranks));
  for (int rank = 0; rank < num_ranks; ++rank) {
    for (int kind = 0; kind < kNumMemoryKinds; ++kind) {
      ranks[rank].memory_bytes[kind] = group.allocated_bytes(rank, static_cast<MemoryKind>(kind));
    }
  }
  return ranks;
}

// Checks that need the ids of the config to be in the vocabulary.
absl::Status CheckEndTokens(const ServedModel& model) {
  for (const int32_t id : model.eos_token_ids()) {
    if (id < 0 || id >= model.config.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("eos_token_id ", id, " is not in [0, ", model.config.vocab_size, ")"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Serving> StartModel(const DaemonOptions& options, const ModelStartHooks& hooks) {
  if (options.model == kNullModel) return StartNullModel(options, hooks);
  if (options.null_step_seconds != 0) {
    return absl::InvalidArgumentError("--null-step-time is for --model null only");
  }
  MOED_ASSIGN_OR_RETURN(const ComputeDevice device, ChooseDevice(options));
  hooks.on_info(device.reason);
  CheckpointOptions checkpoint_options;
  MOED_ASSIGN_OR_RETURN(checkpoint_options.format, ParseLoadFormat(options.load_format));
  checkpoint_options.dummy_seed = options.dummy_seed;
  checkpoint_options.verify = options.verify_checkpoint;
  checkpoint_options.verify_progress = [&hooks](double fraction) {
    return hooks.on_progress({.rank = 0, .phase = "digests", .fraction = fraction});
  };
  MOED_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(options.model, checkpoint_options));
  for (const std::string& warning : checkpoint.metadata.warnings) hooks.on_warning(warning);
  MOED_ASSIGN_OR_RETURN(std::shared_ptr<ServedModel> model,
                        DescribeModel(options, checkpoint.metadata));
  MOED_RETURN_IF_ERROR(CheckEndTokens(*model));

  MOED_ASSIGN_OR_RETURN(ThreadWorkerGroupOptions group_options,
                        GroupOptions(options, device, model->config,
                                     std::shared_ptr<WeightSource>(std::move(checkpoint.weights))));
  model->placement =
      ExpertPlacement::Even(static_cast<int>(model->config.num_layers),
                            static_cast<int>(model->config.num_experts), options.ranks);
  if (!group_options.emulated) group_options.placement = model->placement;
  auto group = std::make_unique<ThreadWorkerGroup>(std::move(group_options));
  MOED_ASSIGN_OR_RETURN(const WorkerGroupInfo info, group->Start(hooks.on_progress));
  model->backend = info.backend;
  model->ranks = DescribeRanks(*group, info.num_ranks);
  model->context_tokens = static_cast<int32_t>(std::min<int64_t>(
      model->config.max_positions, info.num_kv_blocks_per_rank * info.block_size));
  for (const std::string& line : StartReport(options, *model, info, *group)) hooks.on_info(line);
  for (const std::string& line : StartWarnings(options)) hooks.on_warning(line);

  EngineOptions engine_options = MakeEngineOptions(options);
  engine_options.on_fault = hooks.on_fault;
  Serving serving;
  MOED_ASSIGN_OR_RETURN(serving.engine, MakeEngine(std::move(engine_options), std::move(group),
                                                   info, model->tokenizer.get()));
  serving.model = std::move(model);
  return serving;
}

}  // namespace moed
