#include "runtime/engine/worker.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "runtime/model/expert_capacity.h"
#include "runtime/model/tensor_bytes.h"

namespace moed {
namespace {

int64_t MaxExpertsPerToken(const ModelConfig& config, const WorkerLimits& limits) {
  return limits.max_experts_per_token > 0 ? limits.max_experts_per_token : config.top_k;
}

DispatcherLimits DispatcherLimitsOf(const ModelConfig& config, const WorkerLimits& limits) {
  return {.max_rows = limits.max_rows,
          .max_gather_rows = limits.max_gather_rows,
          .hidden = config.hidden,
          .top_k = MaxExpertsPerToken(config, limits),
          .max_in_flight = 1};
}

ActivationLimits ActivationLimitsOf(const ModelConfig& config, const WorkerLimits& limits) {
  return {.max_rows = limits.max_rows,
          .max_logit_rows = limits.max_logit_rows(),
          .max_experts_per_token = MaxExpertsPerToken(config, limits),
          .limits_load = limits.capacity_factor > 0};
}

RankSlots::Limits SlotLimitsOf(const ModelConfig& config, const WorkerLimits& limits) {
  return {.num_slots = static_cast<int32_t>(limits.max_sequences),
          .num_kv_blocks = limits.num_kv_blocks,
          .block_size = limits.block_size,
          .max_positions = config.max_positions,
          .vocab = config.vocab_size,
          .experts_per_token = static_cast<int32_t>(config.top_k),
          .max_experts_per_token = static_cast<int32_t>(MaxExpertsPerToken(config, limits))};
}

int64_t MaxContextBlocks(const ModelConfig& config, const WorkerLimits& limits) {
  return std::min(limits.num_kv_blocks,
                  (config.max_positions + limits.block_size - 1) / limits.block_size);
}

RankInputs::Limits InputLimitsOf(const ModelConfig& config, const WorkerLimits& limits) {
  return {.max_rows = limits.max_rows,
          .max_chunks = limits.max_sequences,
          .max_blocks_per_chunk = MaxContextBlocks(config, limits),
          .max_experts_per_token = static_cast<int32_t>(MaxExpertsPerToken(config, limits))};
}

WorkspaceLimits WorkspaceLimitsOf(const ModelConfig& config, const ExpertPlacement& placement,
                                  const WorkerLimits& limits) {
  return {.max_rows = limits.max_rows,
          .max_expert_rows = limits.max_rows * placement.num_ranks(),
          .max_logit_rows = limits.max_logit_rows(),
          .max_context_tokens =
              std::min(config.max_positions, MaxContextBlocks(config, limits) * limits.block_size),
          .hidden = config.hidden,
          .ffn = config.ffn,
          .vocab = config.vocab_size,
          .num_heads = config.num_heads,
          .num_kv_heads = config.num_kv_heads,
          .head_dim = config.head_dim,
          .num_experts = config.num_experts,
          .top_k = MaxExpertsPerToken(config, limits)};
}

}  // namespace

absl::StatusOr<std::vector<int64_t>> Worker::MemoryBytes(const ModelConfig& config,
                                                         const ExpertPlacement& placement,
                                                         const Backend& backend,
                                                         const WorkerLimits& limits) {
  const DType activation = backend.activation_dtype();
  std::vector<int64_t> bytes(kNumMemoryKinds, 0);
  const auto of = [&bytes](MemoryKind kind) -> int64_t& {
    return bytes[static_cast<size_t>(kind)];
  };
  of(MemoryKind::kKvCache) =
      MulBytes(KvCache::BlockBytes(config, activation, limits.block_size), limits.num_kv_blocks);
  of(MemoryKind::kActivations) = AddBytes(
      AddBytes(Activations::Bytes(config, activation, ActivationLimitsOf(config, limits)),
               RankInputs::Bytes(InputLimitsOf(config, limits))),
      AddBytes(RankSampler::Bytes(limits.max_sequences), RankPromptScorer::Bytes(limits.max_rows)));
  MOED_ASSIGN_OR_RETURN(
      of(MemoryKind::kExchange),
      TokenDispatcher::ExchangeBytes(placement, DispatcherLimitsOf(config, limits), activation));
  MOED_ASSIGN_OR_RETURN(of(MemoryKind::kWorkspace),
                        backend.WorkspaceBytes(WorkspaceLimitsOf(config, placement, limits)));
  return bytes;
}

Worker::Worker(const WorkerParts& parts, const WorkerLimits& limits)
    : parts_(parts), limits_(limits), slots_(SlotLimitsOf(*parts.config, limits)) {}

absl::StatusOr<std::unique_ptr<Worker>> Worker::Create(const WorkerParts& parts,
                                                       const WorkerLimits& limits) {
  auto worker = std::unique_ptr<Worker>(new Worker(parts, limits));
  MOED_RETURN_IF_ERROR(worker->Allocate());
  MOED_RETURN_IF_ERROR(
      parts.backend->PrepareWorkspace(WorkspaceLimitsOf(*parts.config, *parts.placement, limits)));
  worker->transformer_ =
      std::make_unique<Transformer>(TransformerParts{.config = parts.config,
                                                     .replicated = parts.replicated,
                                                     .experts = parts.experts,
                                                     .backend = parts.backend,
                                                     .dispatcher = worker->dispatcher_.get(),
                                                     .kv_cache = worker->kv_cache_.get(),
                                                     .activations = worker->activations_.get(),
                                                     .heartbeat = parts.heartbeat});
  return worker;
}

absl::Status Worker::Allocate() {
  Backend& backend = *parts_.backend;
  const ModelConfig& config = *parts_.config;
  stream_ = backend.CreateStream();
  timer_ = backend.CreateTimer();
  MOED_ASSIGN_OR_RETURN(
      kv_cache_, KvCache::Create(backend, config, limits_.num_kv_blocks, limits_.block_size));
  MOED_ASSIGN_OR_RETURN(activations_,
                        Activations::Create(backend, config, ActivationLimitsOf(config, limits_)));
  MOED_ASSIGN_OR_RETURN(dispatcher_,
                        TokenDispatcher::Create(backend, *parts_.communicator, *parts_.placement,
                                                DispatcherLimitsOf(config, limits_)));
  MOED_ASSIGN_OR_RETURN(inputs_, RankInputs::Create(backend, InputLimitsOf(config, limits_)));
  MOED_ASSIGN_OR_RETURN(sampler_, RankSampler::Create(backend, limits_.max_sequences));
  MOED_ASSIGN_OR_RETURN(scorer_, RankPromptScorer::Create(backend, limits_.max_rows));
  MOED_ASSIGN_OR_RETURN(
      routing_, RankRouting::Create(backend, *activations_, static_cast<int>(limits_.max_sequences),
                                    limits_.trace_routing));
  return absl::OkStatus();
}

absl::StatusOr<RankResult> Worker::Step(const RankBatch& batch) {
  timer_->Start(*stream_);
  const CommunicatorStats before = parts_.communicator->stats();
  if (parts_.heartbeat != nullptr) parts_.heartbeat->BeginStep();
  Admit(batch);
  for (const BlockCopy& copy : batch.block_copies) {
    kv_cache_->CopyBlock(*parts_.backend, *stream_, copy.from, copy.to);
  }
  StepInput input = inputs_->Load(*stream_, batch, slots_);
  const int64_t num_rows = input.forward.num_tokens();
  input.forward.last_sampled = sampler_->last_sampled();
  input.forward.expert_capacity =
      ExpertCapacity(limits_.capacity_factor, input.num_pairs, parts_.config->num_experts);

  routing_->BeginStep(*stream_, num_rows);
  MOED_RETURN_IF_ERROR(transformer_->Forward(*stream_, input.forward));
  const int64_t num_draws = input.logit_rows.dim(0);
  transformer_->Head(*stream_, num_rows, input.logit_rows);
  if (parts_.heartbeat != nullptr) parts_.heartbeat->EnterPart(-1, "sampling");
  sampler_->Sample(*stream_, batch, slots_, activations_->logits(num_draws));
  scorer_->Score(*stream_, *transformer_, *activations_, num_rows, input.scored_rows,
                 input.scored_targets);
  routing_->Fetch(*stream_);
  timer_->Stop(*stream_);
  MOED_RETURN_IF_ERROR(parts_.backend->Synchronize(*stream_));

  RankResult result = CollectResult(batch);
  const CommunicatorStats after = parts_.communicator->stats();
  result.collective_wait_seconds = after.wait_seconds - before.wait_seconds;
  // On a device the host's waits overlap with its work, so the rest may come out below nothing.
  result.compute_seconds = std::max(0.0, timer_->seconds() - result.collective_wait_seconds);
  result.exchange_bytes_sent = after.bytes_sent - before.bytes_sent;
  result.exchange_bytes_received = after.bytes_received - before.bytes_received;
  return result;
}

void Worker::Admit(const RankBatch& batch) {
  for (const SlotInit& init : batch.admitted) {
    slots_.Admit(init);
    routing_->Forget(init.slot);
  }
  for (const SequenceChunk& chunk : batch.chunks) {
    slots_.Extend(batch.step, chunk);
    for (const int32_t slot : chunk.fork_slots) slots_.Fork(slot);
  }
}

RankResult Worker::CollectResult(const RankBatch& batch) {
  RankResult result;
  result.step = batch.step;
  routing_->Collect(batch, slots_, result);
  int64_t first_row = 0;
  for (const SequenceChunk& chunk : batch.chunks) {
    ChunkReport report;
    report.slot = chunk.slot;
    report.start_position = chunk.start_position;
    scorer_->Collect(chunk, slots_.init(chunk.slot).num_prompt_logprobs, report);
    routing_->CollectChunk(chunk, first_row, slots_, report);
    if (!report.prompt_logprobs.empty() || !report.routed_experts.empty() ||
        report.dropped_pairs > 0) {
      result.reports.push_back(std::move(report));
    }
    first_row += static_cast<int64_t>(chunk.tokens.size());
  }
  sampler_->Collect(slots_, result);
  return result;
}

}  // namespace moed
