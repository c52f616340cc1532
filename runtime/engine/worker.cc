#include "runtime/engine/worker.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <utility>

#include "absl/types/span.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "runtime/model/tensor_bytes.h"

namespace moed {
namespace {

DispatcherLimits DispatcherLimitsOf(const ModelConfig& config, const WorkerLimits& limits) {
  return {.max_rows = limits.max_rows,
          .max_gather_rows = limits.max_gather_rows,
          .hidden = config.hidden,
          .top_k = config.top_k,
          .max_in_flight = 1};
}

ActivationLimits ActivationLimitsOf(const WorkerLimits& limits) {
  return {.max_rows = limits.max_rows, .max_logit_rows = limits.max_logit_rows()};
}

RankSlots::Limits SlotLimitsOf(const ModelConfig& config, const WorkerLimits& limits) {
  return {.num_slots = static_cast<int32_t>(limits.max_sequences),
          .num_kv_blocks = limits.num_kv_blocks,
          .block_size = limits.block_size,
          .max_positions = config.max_positions,
          .vocab = config.vocab_size};
}

RankInputs::Limits InputLimitsOf(const ModelConfig& config, const WorkerLimits& limits) {
  const int64_t context_blocks = (config.max_positions + limits.block_size - 1) / limits.block_size;
  return {.max_rows = limits.max_rows,
          .max_chunks = limits.max_sequences,
          .max_blocks_per_chunk = std::min(limits.num_kv_blocks, context_blocks)};
}

int64_t SampleBytes(const WorkerLimits& limits) {
  const int64_t rows = limits.max_logit_rows();
  const int64_t tops = TensorBytes(DType::kInt32, {rows, 2 * kMaxLogprobs});
  const int64_t tokens = TensorBytes(DType::kInt32, {rows, 2});
  return AddBytes(AddBytes(tops, tokens), TensorBytes(DType::kInt32, {limits.max_sequences}));
}

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

absl::StatusOr<std::vector<int64_t>> Worker::MemoryBytes(const ModelConfig& config,
                                                         const ExpertPlacement& placement,
                                                         DType activation,
                                                         const WorkerLimits& limits) {
  std::vector<int64_t> bytes(kNumMemoryKinds, 0);
  const auto of = [&bytes](MemoryKind kind) -> int64_t& {
    return bytes[static_cast<size_t>(kind)];
  };
  of(MemoryKind::kKvCache) =
      MulBytes(KvCache::BlockBytes(config, activation, limits.block_size), limits.num_kv_blocks);
  of(MemoryKind::kActivations) =
      AddBytes(Activations::Bytes(config, activation, ActivationLimitsOf(limits)),
               AddBytes(RankInputs::Bytes(InputLimitsOf(config, limits)), SampleBytes(limits)));
  MOED_ASSIGN_OR_RETURN(
      of(MemoryKind::kExchange),
      TokenDispatcher::ExchangeBytes(placement, DispatcherLimitsOf(config, limits), activation));
  return bytes;
}

Worker::Worker(const WorkerParts& parts, const WorkerLimits& limits)
    : parts_(parts), limits_(limits), slots_(SlotLimitsOf(*parts.config, limits)) {}

absl::StatusOr<std::unique_ptr<Worker>> Worker::Create(const WorkerParts& parts,
                                                       const WorkerLimits& limits) {
  auto worker = std::unique_ptr<Worker>(new Worker(parts, limits));
  MOED_RETURN_IF_ERROR(worker->Allocate());
  MOED_RETURN_IF_ERROR(worker->PrepareWorkspace());
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
  MOED_ASSIGN_OR_RETURN(
      kv_cache_, KvCache::Create(backend, config, limits_.num_kv_blocks, limits_.block_size));
  MOED_ASSIGN_OR_RETURN(activations_,
                        Activations::Create(backend, config, ActivationLimitsOf(limits_)));
  MOED_ASSIGN_OR_RETURN(dispatcher_,
                        TokenDispatcher::Create(backend, *parts_.communicator, *parts_.placement,
                                                DispatcherLimitsOf(config, limits_)));
  MOED_ASSIGN_OR_RETURN(inputs_, RankInputs::Create(backend, InputLimitsOf(config, limits_)));

  const int64_t rows = limits_.max_logit_rows();
  const int64_t row_bytes = TensorBytes(DType::kInt32, {rows});
  const int64_t top_bytes = TensorBytes(DType::kInt32, {rows, kMaxLogprobs});
  const auto on_device = [&backend](int64_t bytes) {
    return backend.Allocate(MemoryKind::kActivations, bytes);
  };
  MOED_ASSIGN_OR_RETURN(last_sampled_,
                        on_device(TensorBytes(DType::kInt32, {limits_.max_sequences})));
  MOED_ASSIGN_OR_RETURN(sampled_.token_ids, on_device(row_bytes));
  MOED_ASSIGN_OR_RETURN(sampled_.logprobs, on_device(row_bytes));
  MOED_ASSIGN_OR_RETURN(sampled_.top_ids, on_device(top_bytes));
  MOED_ASSIGN_OR_RETURN(sampled_.top_logprobs, on_device(top_bytes));
  MOED_ASSIGN_OR_RETURN(sampled_host_.token_ids, AllocateHostBuffer(row_bytes));
  MOED_ASSIGN_OR_RETURN(sampled_host_.logprobs, AllocateHostBuffer(row_bytes));
  MOED_ASSIGN_OR_RETURN(sampled_host_.top_ids, AllocateHostBuffer(top_bytes));
  MOED_ASSIGN_OR_RETURN(sampled_host_.top_logprobs, AllocateHostBuffer(top_bytes));
  const int64_t count_bytes = activations_->expert_counts().bytes();
  MOED_ASSIGN_OR_RETURN(expert_counts_host_, AllocateHostBuffer(count_bytes));
  MOED_ASSIGN_OR_RETURN(zero_counts_host_, AllocateHostBuffer(count_bytes));
  sampling_rows_.reserve(static_cast<size_t>(rows));
  return absl::OkStatus();
}

absl::Status Worker::PrepareWorkspace() {
  const ModelConfig& config = *parts_.config;
  return parts_.backend->PrepareWorkspace(
      {.max_rows = limits_.max_rows,
       .max_expert_rows = limits_.max_rows * parts_.placement->num_ranks(),
       .max_logit_rows = limits_.max_logit_rows(),
       .max_context_tokens =
           std::min(config.max_positions, slots_.max_blocks_per_slot() * limits_.block_size),
       .hidden = config.hidden,
       .ffn = config.ffn,
       .vocab = config.vocab_size,
       .num_heads = config.num_heads,
       .num_kv_heads = config.num_kv_heads,
       .head_dim = config.head_dim,
       .num_experts = config.num_experts,
       .top_k = config.top_k});
}

absl::StatusOr<RankResult> Worker::Step(const RankBatch& batch) {
  const auto start = std::chrono::steady_clock::now();
  const CommunicatorStats before = parts_.communicator->stats();
  if (parts_.heartbeat != nullptr) parts_.heartbeat->BeginStep();
  for (const SlotInit& init : batch.admitted) slots_.Admit(init);
  for (const SequenceChunk& chunk : batch.chunks) slots_.Extend(batch.step, chunk);

  ForwardInput input;
  input.step = batch.step;
  input.exchange = {.strategy = batch.exchange, .padded_rows = batch.padded_rows};
  input.last_sampled = last_sampled_.View(DType::kInt32, {limits_.max_sequences});
  inputs_->Load(*stream_, batch, slots_, input);

  const TensorView counts = activations_->expert_counts();
  const ConstTensorView zeros =
      zero_counts_host_.View(DType::kInt64, {counts.dim(0), counts.dim(1)});
  parts_.backend->CopyToDevice(*stream_, zeros, counts);
  MOED_RETURN_IF_ERROR(transformer_->Forward(*stream_, input));
  Sample(batch, input.logit_rows.dim(0));
  parts_.backend->CopyToHost(
      *stream_, counts, expert_counts_host_.View(DType::kInt64, {counts.dim(0), counts.dim(1)}));
  MOED_RETURN_IF_ERROR(parts_.backend->Synchronize(*stream_));

  RankResult result = CollectResult(batch);
  const CommunicatorStats after = parts_.communicator->stats();
  result.collective_wait_seconds = after.wait_seconds - before.wait_seconds;
  result.compute_seconds = SecondsSince(start) - result.collective_wait_seconds;
  result.exchange_bytes_sent = after.bytes_sent - before.bytes_sent;
  result.exchange_bytes_received = after.bytes_received - before.bytes_received;
  return result;
}

void Worker::Sample(const RankBatch& batch, int64_t num_logit_rows) {
  sampling_rows_.clear();
  if (num_logit_rows == 0) return;
  if (parts_.heartbeat != nullptr) parts_.heartbeat->EnterPart(-1, "sampling");
  bool want_top = false;
  for (const SequenceChunk& chunk : batch.chunks) {
    if (!chunk.sample) continue;
    const SlotInit& init = slots_.init(chunk.slot);
    SamplingRow& row = sampling_rows_.emplace_back();
    row.slot = chunk.slot;
    row.temperature = init.temperature;
    row.top_k = init.top_k;
    row.top_p = init.top_p;
    row.min_p = init.min_p;
    row.seed = init.seed;
    row.position = chunk.start_position + static_cast<int64_t>(chunk.tokens.size());
    if (chunk.suppress) row.suppressed_token_ids = init.suppressed_token_ids;
    want_top = want_top || init.num_logprobs > 0;
    slots_.MarkSampled(chunk.slot);
  }
  MOED_CHECK(static_cast<int64_t>(sampling_rows_.size()) == num_logit_rows,
             "a row of logits without its sampling parameters");

  Backend& backend = *parts_.backend;
  const int64_t n = num_logit_rows;
  const auto rows = [n](const Buffer& buffer, DType dtype) { return buffer.View(dtype, {n}); };
  const auto tops = [n](const Buffer& buffer, DType dtype) {
    return buffer.View(dtype, {n, kMaxLogprobs});
  };
  backend.Sample(*stream_,
                 {.logits = activations_->logits(n),
                  .rows = sampling_rows_,
                  .last_sampled = last_sampled_.View(DType::kInt32, {limits_.max_sequences}),
                  .token_ids = rows(sampled_.token_ids, DType::kInt32),
                  .logprobs = rows(sampled_.logprobs, DType::kFloat32),
                  .top_ids = tops(sampled_.top_ids, DType::kInt32),
                  .top_logprobs = tops(sampled_.top_logprobs, DType::kFloat32),
                  .want_top = want_top});
  backend.CopyToHost(*stream_, rows(sampled_.token_ids, DType::kInt32),
                     rows(sampled_host_.token_ids, DType::kInt32));
  backend.CopyToHost(*stream_, rows(sampled_.logprobs, DType::kFloat32),
                     rows(sampled_host_.logprobs, DType::kFloat32));
  if (!want_top) return;
  backend.CopyToHost(*stream_, tops(sampled_.top_ids, DType::kInt32),
                     tops(sampled_host_.top_ids, DType::kInt32));
  backend.CopyToHost(*stream_, tops(sampled_.top_logprobs, DType::kFloat32),
                     tops(sampled_host_.top_logprobs, DType::kFloat32));
}

RankResult Worker::CollectResult(const RankBatch& batch) const {
  RankResult result;
  result.step = batch.step;
  const auto* token_ids = static_cast<const int32_t*>(sampled_host_.token_ids.data());
  const auto* logprobs = static_cast<const float*>(sampled_host_.logprobs.data());
  const auto* top_ids = static_cast<const int32_t*>(sampled_host_.top_ids.data());
  const auto* top_logprobs = static_cast<const float*>(sampled_host_.top_logprobs.data());
  result.samples.reserve(sampling_rows_.size());
  int64_t row = 0;
  for (const SequenceChunk& chunk : batch.chunks) {
    if (!chunk.sample) continue;
    SampledToken& sample = result.samples.emplace_back();
    sample.slot = chunk.slot;
    sample.token_id = token_ids[row];
    sample.logprob = logprobs[row];
    const int32_t num_tops = std::min(slots_.init(chunk.slot).num_logprobs, kMaxLogprobs);
    for (int32_t i = 0; i < num_tops; ++i) {
      const int64_t place = row * kMaxLogprobs + i;
      if (top_ids[place] < 0) break;  // the vocabulary is smaller
      sample.top_logprobs.emplace_back(top_ids[place], top_logprobs[place]);
    }
    ++row;
  }
  const auto* counts = static_cast<const int64_t*>(expert_counts_host_.data());
  result.expert_counts.assign(counts, counts + activations_->expert_counts().num_elements());
  return result;
}

}  // namespace moed
