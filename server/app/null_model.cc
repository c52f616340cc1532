#include "server/app/null_model.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/core/status.h"
#include "runtime/engine/engine_impl.h"
#include "runtime/engine/null_worker_group.h"
#include "server/app/model_options.h"
#include "server/app/null_tokenizer.h"

namespace moed {
namespace {

// There is no memory behind a block: this only bounds the scheduler's own tables.
constexpr int64_t kMostDefaultKvBlocks = int64_t{1} << 17;

absl::Status Refuse(bool is_set, absl::string_view flag) {
  if (!is_set) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " means nothing with --model null, which computes nothing"));
}

absl::Status CheckNullOptions(const DaemonOptions& options) {
  const DaemonOptions defaults;
  MOED_RETURN_IF_ERROR(Refuse(options.load_format != defaults.load_format, "--load-format"));
  MOED_RETURN_IF_ERROR(Refuse(options.dummy_seed != defaults.dummy_seed, "--dummy-seed"));
  MOED_RETURN_IF_ERROR(Refuse(options.dtype != defaults.dtype, "--dtype"));
  MOED_RETURN_IF_ERROR(Refuse(options.threads != defaults.threads, "--threads"));
  MOED_RETURN_IF_ERROR(Refuse(options.cpu_isa != defaults.cpu_isa, "--cpu-isa"));
  MOED_RETURN_IF_ERROR(Refuse(options.device != defaults.device, "--device"));
  MOED_RETURN_IF_ERROR(Refuse(options.deterministic, "--deterministic"));
  MOED_RETURN_IF_ERROR(Refuse(!options.emulate_rank.empty(), "--emulate-rank"));
  MOED_RETURN_IF_ERROR(Refuse(options.exchange != defaults.exchange, "--exchange"));
  MOED_RETURN_IF_ERROR(
      Refuse(options.kv_cache_bytes != defaults.kv_cache_bytes, "--kv-cache-size"));
  MOED_RETURN_IF_ERROR(
      Refuse(options.capacity_factor != defaults.capacity_factor, "--capacity-factor"));
  return Refuse(options.expert_token_statistics, "--expert-token-statistics");
}

ModelConfig NullConfig(const Tokenizer& tokenizer) {
  ModelConfig config;
  config.architecture = "NullForCausalLM";
  config.vocab_size = tokenizer.vocab_size();
  config.hidden = 4096;
  config.ffn = 14336;
  config.num_layers = 32;
  config.num_heads = 32;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.num_experts = 8;
  config.top_k = 2;
  config.max_positions = 32768;
  config.rope_theta = 1e6;
  config.rms_epsilon = 1e-5;
  config.bos_token_id = tokenizer.bos_id();
  config.eos_token_ids = {tokenizer.eos_id()};
  return config;
}

NullWorkerGroupOptions GroupOptions(const DaemonOptions& options, const ModelConfig& config,
                                    int32_t first_token_id) {
  NullWorkerGroupOptions group;
  group.num_ranks = options.ranks;
  group.block_size = static_cast<int32_t>(options.block_size);
  const int64_t blocks_per_context =
      (config.max_positions + options.block_size - 1) / options.block_size;
  group.num_kv_blocks_per_rank =
      options.kv_blocks > 0
          ? options.kv_blocks
          : std::min(blocks_per_context * options.max_sequences, kMostDefaultKvBlocks);
  group.max_sequences_per_rank = options.max_sequences;
  group.max_rows_per_step = options.max_batched_tokens;
  group.max_positions = config.max_positions;
  group.num_layers = static_cast<int>(config.num_layers);
  group.num_experts = static_cast<int>(config.num_experts);
  group.experts_per_token = static_cast<int>(config.top_k);
  group.max_experts_per_token = options.limits.experts_per_token;
  group.vocab = static_cast<int32_t>(config.vocab_size);
  group.first_token_id = first_token_id;
  group.step_time =
      std::chrono::microseconds(static_cast<int64_t>(options.null_step_seconds * 1e6));
  return group;
}

void Report(const ServedModel& model, const WorkerGroupInfo& info, const ModelStartHooks& hooks) {
  hooks.on_warning(
      "--model null: nothing is computed, tokens are random syllables; this is for measuring the "
      "front end, not for serving");
  hooks.on_info(absl::StrFormat("model %s: %d layers of %d experts, top-%d, context %d tokens",
                                model.name, info.num_layers, info.num_experts,
                                info.experts_per_token, model.context_tokens));
  hooks.on_info(absl::StrFormat(
      "%d rank%s with %d KV blocks of %d tokens, up to %d sequences and %d tokens a step",
      info.num_ranks, info.num_ranks == 1 ? "" : "s, each", info.num_kv_blocks_per_rank,
      info.block_size, info.max_sequences_per_rank, info.max_rows_per_step));
}

}  // namespace

absl::StatusOr<Serving> StartNullModel(const DaemonOptions& options, const ModelStartHooks& hooks) {
  MOED_RETURN_IF_ERROR(CheckNullOptions(options));
  MOED_ASSIGN_OR_RETURN(NullTokenizer words, MakeNullTokenizer());
  auto model = std::make_shared<ServedModel>();
  model->name = ModelName(options);
  model->tokenizer = std::move(words.tokenizer);
  model->config = NullConfig(*model->tokenizer);
  MOED_ASSIGN_OR_RETURN(model->chat_format, ChatFormat::MistralV1(model->tokenizer.get()));
  MOED_RETURN_IF_ERROR(CheckExpertsPerToken(options, model->config));
  model->num_ranks = options.ranks;
  model->block_tokens = static_cast<int32_t>(options.block_size);
  model->ranks.resize(options.ranks);
  model->placement =
      ExpertPlacement::Even(static_cast<int>(model->config.num_layers),
                            static_cast<int>(model->config.num_experts), options.ranks);

  auto group =
      std::make_unique<NullWorkerGroup>(GroupOptions(options, model->config, words.first_word_id));
  MOED_ASSIGN_OR_RETURN(const WorkerGroupInfo info, group->Start(hooks.on_progress));
  model->backend = info.backend;
  model->context_tokens = static_cast<int32_t>(std::min<int64_t>(
      model->config.max_positions, info.num_kv_blocks_per_rank * info.block_size));
  Report(*model, info, hooks);

  EngineOptions engine_options = MakeEngineOptions(options);
  engine_options.on_fault = hooks.on_fault;
  Serving serving;
  MOED_ASSIGN_OR_RETURN(serving.engine, MakeEngine(std::move(engine_options), std::move(group),
                                                   info, model->tokenizer.get()));
  serving.model = std::move(model);
  return serving;
}

}  // namespace moed
