#include "tests/support/model_harness.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <random>
#include <utility>

#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "kernels/core/thread_pool.h"
#include "tests/support/forwarding_backend.h"

namespace moed {

class ModelHarness::CapturingBackend : public ForwardingBackend {
 public:
  CapturingBackend(std::unique_ptr<Backend> backend, Capture& capture)
      : ForwardingBackend(std::move(backend)), capture_(capture) {}

  void Sample(Stream& stream, const SampleArgs& args) override {
    const float* logits = args.logits.data<float>();
    const int64_t vocab = args.logits.dim(1);
    for (int64_t row = 0; row < args.logits.dim(0); ++row) {
      capture_.rows.emplace_back(logits + row * vocab, logits + (row + 1) * vocab);
    }
    ForwardingBackend::Sample(stream, args);
  }

 private:
  Capture& capture_;
};

// One request on its way: what its next chunk is, and where its output goes.
class ModelHarness::Sequence {
 public:
  Sequence(const HarnessRequest& request, int rank, int32_t slot, HarnessOutput& output)
      : request_(request), rank_(rank), slot_(slot), output_(output) {}

  int rank() const { return rank_; }
  bool done() const {
    return next_position_ >= static_cast<int64_t>(request_.prompt.size()) &&
           static_cast<int32_t>(output_.tokens.size()) >= request_.num_tokens;
  }
  int first_step() const { return request_.first_step; }

  // Adds this step's chunk, and the admission before the first.
  void AddTo(RankBatch& batch, std::vector<int32_t>& free_blocks, int64_t block_size) {
    if (next_position_ == 0) {
      SlotInit init = request_.sampling;
      init.slot = slot_;
      batch.admitted.push_back(init);
    }
    SequenceChunk& chunk = batch.chunks.emplace_back();
    chunk.slot = slot_;
    chunk.start_position = next_position_;
    const int32_t prompt_tokens = static_cast<int32_t>(request_.prompt.size());
    if (next_position_ < prompt_tokens) {
      const int32_t end = ChunkEnd(prompt_tokens);
      chunk.tokens.assign(request_.prompt.begin() + next_position_, request_.prompt.begin() + end);
      chunk.sample = (end == prompt_tokens && request_.num_tokens > 0) || IsLogitPosition(end - 1);
    } else {
      chunk.tokens = {kLastSampledToken};
      chunk.sample = true;
    }
    next_position_ += static_cast<int32_t>(chunk.tokens.size());
    while (num_blocks_ * block_size < next_position_) {
      MOED_CHECK(!free_blocks.empty(), "the harness needs more KV blocks");
      chunk.new_blocks.push_back(free_blocks.back());
      free_blocks.pop_back();
      ++num_blocks_;
    }
    sampled_ = chunk.sample;
  }

  // Takes this step's sample where it asked for one.
  bool sampled() const { return sampled_; }
  void Take(const SampledToken& token, const std::vector<float>* logits) {
    const int32_t position = next_position_ - 1;
    if (logits != nullptr) output_.logits[position] = *logits;
    if (next_position_ >= static_cast<int32_t>(request_.prompt.size()) &&
        static_cast<int32_t>(output_.tokens.size()) < request_.num_tokens) {
      output_.tokens.push_back(token);
    }
    sampled_ = false;
  }

 private:
  int32_t ChunkEnd(int32_t prompt_tokens) const {
    int32_t end = prompt_tokens;
    if (request_.chunk_tokens > 0) end = std::min(end, next_position_ + request_.chunk_tokens);
    for (const int32_t position : request_.logit_positions) {
      if (position >= next_position_) return std::min(end, position + 1);
    }
    return end;
  }
  bool IsLogitPosition(int32_t position) const {
    return std::count(request_.logit_positions.begin(), request_.logit_positions.end(), position);
  }

  const HarnessRequest& request_;
  const int rank_;
  const int32_t slot_;
  HarnessOutput& output_;
  int32_t next_position_ = 0;
  int64_t num_blocks_ = 0;
  bool sampled_ = false;
};

absl::StatusOr<std::unique_ptr<ModelHarness>> ModelHarness::Create(const HarnessOptions& options) {
  auto harness = std::unique_ptr<ModelHarness>(new ModelHarness(options));
  harness->captures_.resize(static_cast<size_t>(options.num_ranks));
  const CpuBackendOptions backend_options{
      .isa = options.isa,
      .activation_dtype = options.dtype,
      .pool = std::make_shared<ThreadPool>(options.num_threads)};
  ThreadWorkerGroupOptions group;
  group.config = options.config;
  group.weights = options.weights;
  group.make_backend = [backend_options,
                        raw = harness.get()](int rank) -> absl::StatusOr<std::unique_ptr<Backend>> {
    MOED_ASSIGN_OR_RETURN(std::unique_ptr<Backend> cpu, MakeCpuBackend(backend_options));
    if (!raw->options_.capture_logits) return cpu;
    return std::make_unique<CapturingBackend>(std::move(cpu),
                                              raw->captures_[static_cast<size_t>(rank)]);
  };
  group.num_ranks = options.num_ranks;
  group.block_size = options.block_size;
  group.num_kv_blocks = options.num_kv_blocks;
  group.max_sequences_per_rank = options.max_sequences;
  group.max_rows_per_step = options.max_rows;
  group.max_gather_rows = options.max_rows;
  group.rank_timeout = std::chrono::minutes(5);
  harness->group_ = std::make_unique<ThreadWorkerGroup>(std::move(group));
  MOED_RETURN_IF_ERROR(harness->group_->Start(nullptr).status());
  return harness;
}

absl::StatusOr<HarnessRun> ModelHarness::Run(const std::vector<HarnessRequest>& requests) {
  HarnessRun run;
  run.outputs.resize(requests.size());
  run.expert_counts.assign(
      static_cast<size_t>(options_.config.num_layers * options_.config.num_experts), 0);
  std::vector<int32_t> slots_used(static_cast<size_t>(options_.num_ranks), 0);
  std::vector<Sequence> sequences;
  for (size_t i = 0; i < requests.size(); ++i) {
    const int rank = requests[i].home_rank % options_.num_ranks;
    sequences.emplace_back(requests[i], rank, slots_used[static_cast<size_t>(rank)]++,
                           run.outputs[i]);
  }
  std::vector<int32_t> blocks(static_cast<size_t>(options_.num_kv_blocks));
  std::iota(blocks.rbegin(), blocks.rend(), 0);
  if (options_.block_order_seed != 0) {
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937_64(options_.block_order_seed));
  }
  free_blocks_.assign(static_cast<size_t>(options_.num_ranks), blocks);
  while (std::any_of(sequences.begin(), sequences.end(),
                     [](const Sequence& sequence) { return !sequence.done(); })) {
    MOED_RETURN_IF_ERROR(Step(sequences, run));
  }
  return run;
}

absl::Status ModelHarness::Step(std::vector<Sequence>& sequences, HarnessRun& run) {
  std::vector<RankBatch> batches(static_cast<size_t>(options_.num_ranks));
  for (Sequence& sequence : sequences) {
    if (sequence.done() || run.num_steps < sequence.first_step()) continue;
    const size_t rank = static_cast<size_t>(sequence.rank());
    sequence.AddTo(batches[rank], free_blocks_[rank], options_.block_size);
  }
  int32_t most_rows = 0;
  for (const RankBatch& batch : batches) {
    most_rows = std::max(most_rows, batch.num_rows());
    run.num_rows += batch.num_rows();
  }
  ExchangeStrategy exchange = options_.exchange;
  if (options_.mixes_exchanges && run.num_steps % 2 == 1) {
    exchange =
        exchange == ExchangeStrategy::kExact ? ExchangeStrategy::kGather : ExchangeStrategy::kExact;
  }
  for (RankBatch& batch : batches) {
    batch.step = next_step_;
    batch.exchange = exchange;
    batch.padded_rows = most_rows;
  }
  ++next_step_;
  ++run.num_steps;
  for (Capture& capture : captures_) capture.rows.clear();
  MOED_RETURN_IF_ERROR(group_->Launch(std::move(batches)));
  MOED_ASSIGN_OR_RETURN(const std::vector<RankResult> results, group_->Await());

  std::vector<size_t> taken(results.size(), 0);
  for (Sequence& sequence : sequences) {
    if (!sequence.sampled()) continue;
    const size_t rank = static_cast<size_t>(sequence.rank());
    const size_t row = taken[rank]++;
    sequence.Take(results[rank].samples.at(row),
                  options_.capture_logits ? &captures_[rank].rows.at(row) : nullptr);
  }
  for (const RankResult& result : results) {
    for (size_t i = 0; i < result.expert_counts.size(); ++i) {
      run.expert_counts[i] += result.expert_counts[i];
    }
  }
  return absl::OkStatus();
}

}  // namespace moed
