#include "server/app/model_options.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "kernels/core/thread_pool.h"
#include "kernels/cpu/cpu_backend.h"
#include "runtime/engine/rank_memory.h"
#include "server/app/process_resources.h"

namespace moed {
namespace {

absl::Status UseProcessor(const DaemonOptions& options, DType activation,
                          ThreadWorkerGroupOptions& group) {
  CpuBackendOptions backend;
  MOED_ASSIGN_OR_RETURN(backend.isa, ParseCpuIsa(options.cpu_isa));
  backend.activation_dtype = activation;
  backend.pool =
      std::make_shared<ThreadPool>(options.threads > 0 ? options.threads : AvailableProcessors());
  group.make_backend = [backend](int) { return MakeCpuBackend(backend); };
  group.available_memory_bytes = AvailableMemoryBytes();
  return absl::OkStatus();
}

// All ranks share one device.
void UseGpu(const DaemonOptions& options, const ComputeDevice& device, DType activation,
            ThreadWorkerGroupOptions& group) {
  const GpuBackendOptions backend{.device = options.gpu_device,
                                  .activation_dtype = activation,
                                  .deterministic = options.deterministic};
  group.make_backend = [gpu = device.gpu, backend](int) { return gpu->MakeBackend(backend); };
  group.make_group = [gpu = device.gpu, index = options.gpu_device](
                         int num_ranks, std::chrono::milliseconds deadline) {
    return gpu->MakeVirtualRankGroup(num_ranks, index, deadline);
  };
  group.available_memory_bytes = device.free_memory_bytes;
}

}  // namespace

absl::StatusOr<DType> ActivationDType(const DaemonOptions& options, const ModelConfig& config) {
  if (options.dtype == "float32") return DType::kFloat32;
  if (options.dtype == "bfloat16") return DType::kBFloat16;
  return config.checkpoint_dtype == DType::kBFloat16 ? DType::kBFloat16 : DType::kFloat32;
}

std::string ModelName(const DaemonOptions& options) {
  if (!options.model_name.empty()) return options.model_name;
  std::error_code ignored;
  // As it was given: a symbolic link's own name, and not that of what it points to.
  const std::filesystem::path path =
      std::filesystem::absolute(options.model, ignored).lexically_normal();
  const bool is_directory = path.has_filename() && !std::filesystem::is_regular_file(path, ignored);
  const std::filesystem::path directory = is_directory ? path : path.parent_path();
  const std::string name = directory.filename().string();
  return name.empty() ? "model" : name;
}

absl::StatusOr<int64_t> KvBlocksPerRank(const DaemonOptions& options, const ModelConfig& config,
                                        DType activation) {
  if (options.kv_blocks > 0) return options.kv_blocks;
  const bool by_default = options.kv_cache_bytes == 0;
  const int64_t bytes = by_default ? kDefaultKvCacheBytes : options.kv_cache_bytes;
  const int64_t fit = NumKvBlocks(config, activation, options.block_size, bytes);
  if (fit < 1) {
    return absl::ResourceExhaustedError(
        absl::StrCat("--kv-cache-size: ", bytes, " bytes hold no block of ", options.block_size,
                     " tokens, which takes ",
                     config.kv_bytes_per_token(activation) * options.block_size, " bytes"));
  }
  if (!by_default) return fit;
  const int64_t blocks_per_context =
      (config.max_positions + options.block_size - 1) / options.block_size;
  return std::min(fit, blocks_per_context * options.max_sequences);
}

absl::Status CheckExpertsPerToken(const DaemonOptions& options, const ModelConfig& config) {
  const int32_t most = options.limits.experts_per_token;
  if (most == 0 || (most >= config.top_k && most <= config.num_experts)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--max-experts-per-token: a token of this model goes to ", config.top_k, " of ",
                   config.num_experts, " experts; expected ", config.top_k, " to ",
                   config.num_experts, ", found ", most));
}

absl::StatusOr<ThreadWorkerGroupOptions> GroupOptions(const DaemonOptions& options,
                                                      const ComputeDevice& device,
                                                      const ModelConfig& config,
                                                      std::shared_ptr<WeightSource> weights) {
  MOED_ASSIGN_OR_RETURN(const DType activation, ActivationDType(options, config));
  ThreadWorkerGroupOptions group;
  group.config = config;
  group.weights = std::move(weights);
  if (device.is_gpu()) {
    UseGpu(options, device, activation, group);
  } else {
    MOED_RETURN_IF_ERROR(UseProcessor(options, activation, group));
  }
  group.num_ranks = options.ranks;
  MOED_ASSIGN_OR_RETURN(const std::optional<EmulatedRankOption> emulated,
                        ParseEmulatedRank(options.emulate_rank));
  if (emulated) group.emulated = {.rank = emulated->rank, .num_ranks = emulated->num_ranks};
  group.block_size = options.block_size;
  MOED_ASSIGN_OR_RETURN(group.num_kv_blocks, KvBlocksPerRank(options, config, activation));
  group.max_sequences_per_rank = options.max_sequences;
  group.max_rows_per_step = options.max_batched_tokens;
  if (options.exchange == "exact") group.max_gather_rows = 0;
  MOED_RETURN_IF_ERROR(CheckExpertsPerToken(options, config));
  group.max_experts_per_token = options.limits.experts_per_token;
  group.capacity_factor = options.capacity_factor;
  group.trace_routing = options.expert_token_statistics;
  group.rank_timeout =
      std::chrono::milliseconds(static_cast<int64_t>(options.rank_timeout_seconds * 1000));
  return group;
}

EngineOptions MakeEngineOptions(const DaemonOptions& options) {
  EngineOptions engine;
  engine.max_queued_requests = options.limits.queued_requests;
  engine.prefix_cache = !options.no_prefix_cache;
  engine.priority_ageing =
      std::chrono::milliseconds(static_cast<int64_t>(options.priority_ageing_seconds * 1000));
  engine.keeps_token_statistics = options.expert_token_statistics;
  if (options.exchange == "exact") engine.exchange = ExchangeMode::kExact;
  if (options.exchange == "gather") engine.exchange = ExchangeMode::kGather;
  return engine;
}

}  // namespace moed
