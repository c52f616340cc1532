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
    for (int64_t row = 0; row < args.logits.dim(0); ++row) {
      std::vector<float>& logits = capture_.rows.emplace_back(args.logits.dim(1));
      CopyToHost(stream, args.logits.Rows(row, 1),
                 TensorView(logits.data(), DType::kFloat32, {1, args.logits.dim(1)}));
    }
    // What has failed so far fails the step as well.
    static_cast<void>(Synchronize(stream));
    ForwardingBackend::Sample(stream, args);
  }

 private:
  Capture& capture_;
};

// One choice of a request on its way: what its next chunk is, and where its output goes.
class ModelHarness::Sequence {
 public:
  Sequence(const HarnessRequest& request, int rank, int32_t slot, uint32_t choice_index,
           HarnessOutput& output)
      : request_(request),
        rank_(rank),
        slot_(slot),
        choice_index_(choice_index),
        output_(output),
        known_(request.prompt) {}

  // This one's prompt is `parent`'s, which computes it.
  void ForkFrom(Sequence& parent) {
    parent_ = &parent;
    parent.forks_.push_back(this);
  }

  // Its prompt begins as `source`'s, whose blocks it may take.
  void ShareWith(const Sequence& source) { prefix_source_ = &source; }

  int rank() const { return rank_; }
  int32_t slot() const { return slot_; }
  int64_t num_cached() const { return num_cached_; }
  int64_t experts_per_token() const { return request_.init.experts_per_token; }
  bool done() const {
    return (parent_ != nullptr || next_position_ >= PromptTokens()) &&
           static_cast<int32_t>(output_.tokens.size()) >= request_.num_tokens;
  }
  // Whether this step has a chunk of it.
  bool Runs(int step) const {
    return !done() && step >= request_.first_step &&
           (parent_ == nullptr || !output_.tokens.empty());
  }

  // Adds this step's chunk, and the admission before the first.
  void AddTo(RankBatch& batch, std::vector<int32_t>& free_blocks, int64_t block_size, int step) {
    if (IsPreempted()) {
      ++num_preempted_;
      next_position_ = 0;
      has_drawn_ = false;
      blocks_.clear();
    }
    SequenceChunk chunk;
    if (next_position_ == 0) {
      if (parent_ == nullptr || num_preempted_ > 0) {
        Admit(batch);
        TakePrefix(chunk, block_size, step);
      } else {
        TakeCacheOfParent(batch, chunk, free_blocks, block_size);
      }
    }
    chunk.slot = slot_;
    chunk.start_position = next_position_;
    const int32_t known_tokens = static_cast<int32_t>(known_.size());
    if (next_position_ < PromptTokens() || !has_drawn_) {
      const int32_t end = ChunkEnd(known_tokens);
      chunk.tokens.assign(known_.begin() + next_position_, known_.begin() + end);
      chunk.sample = (end == known_tokens && request_.num_tokens > 0) || IsLogitPosition(end - 1);
    } else {
      chunk.tokens = {kLastSampledToken};
      chunk.sample = true;
    }
    AddTargets(chunk);
    next_position_ += static_cast<int32_t>(chunk.tokens.size());
    while (static_cast<int64_t>(blocks_.size()) * block_size < next_position_) {
      chunk.new_blocks.push_back(TakeBlock(free_blocks));
    }
    chunk.suppress = static_cast<int32_t>(output_.tokens.size()) < request_.min_tokens;
    sampled_ = chunk.sample;
    if (next_position_ == PromptTokens() && chunk.sample && num_preempted_ == 0) {
      prompt_blocks_ = blocks_;
      prompt_computed_in_ = step;
      for (Sequence* fork : forks_) {
        fork->Admit(batch);
        fork->sampled_ = true;
        chunk.fork_slots.push_back(fork->slot_);
      }
    }
    batch.chunks.push_back(std::move(chunk));
  }

  // Takes this step's sample where it asked for one.
  bool sampled() const { return sampled_; }
  void Take(const SampledToken& token, const std::vector<float>* logits) {
    const bool is_first_of_fork = parent_ != nullptr && next_position_ == 0;
    const int32_t end = is_first_of_fork ? PromptTokens() : next_position_;
    if (logits != nullptr) output_.logits[end - 1] = *logits;
    if (end >= PromptTokens() &&
        static_cast<int32_t>(output_.tokens.size()) < request_.num_tokens) {
      output_.tokens.push_back(token);
      known_.push_back(token.token_id);
    }
    sampled_ = false;
    has_drawn_ = true;
  }
  void Take(const ChunkReport& report) {
    output_.prompt_logprobs.insert(output_.prompt_logprobs.end(), report.prompt_logprobs.begin(),
                                   report.prompt_logprobs.end());
    output_.routed_experts.insert(output_.routed_experts.end(), report.routed_experts.begin(),
                                  report.routed_experts.end());
    output_.dropped_pairs += report.dropped_pairs;
  }

 private:
  int32_t PromptTokens() const { return static_cast<int32_t>(request_.prompt.size()); }
  bool IsPreempted() const {
    return num_preempted_ < request_.preempted_after.size() &&
           static_cast<int32_t>(output_.tokens.size()) >= request_.preempted_after[num_preempted_];
  }
  int32_t TakeBlock(std::vector<int32_t>& free_blocks) {
    MOED_CHECK(!free_blocks.empty(), "the harness needs more KV blocks");
    blocks_.push_back(free_blocks.back());
    free_blocks.pop_back();
    return blocks_.back();
  }
  void Admit(RankBatch& batch) const {
    SlotInit& init = batch.admitted.emplace_back(request_.init);
    init.slot = slot_;
    init.choice_index += choice_index_;
    if (!NeedsHistory(init.sampling)) return;
    init.prompt_token_ids = request_.prompt;
    init.generated_token_ids.assign(known_.begin() + PromptTokens(), known_.end());
  }
  // The first chunk of a fork: whole blocks are shared, the last one is copied.
  void TakeCacheOfParent(RankBatch& batch, SequenceChunk& chunk, std::vector<int32_t>& free_blocks,
                         int64_t block_size) {
    next_position_ = PromptTokens();
    const auto num_shared = static_cast<size_t>(next_position_ / block_size);
    blocks_.assign(parent_->prompt_blocks_.begin(),
                   parent_->prompt_blocks_.begin() + static_cast<int64_t>(num_shared));
    if (next_position_ % block_size != 0) {
      batch.block_copies.push_back(
          {.from = parent_->prompt_blocks_[num_shared], .to = TakeBlock(free_blocks)});
    }
    chunk.new_blocks = blocks_;
  }
  // The first chunk begins after the whole blocks that another sequence has computed.
  void TakePrefix(SequenceChunk& chunk, int64_t block_size, int step) {
    if (prefix_source_ == nullptr || prefix_source_->rank_ != rank_ ||
        prefix_source_->prompt_computed_in_ < 0 || prefix_source_->prompt_computed_in_ >= step) {
      return;
    }
    const std::vector<int32_t>& other = prefix_source_->request_.prompt;
    const auto same = std::mismatch(known_.begin(), known_.end(), other.begin(), other.end()).first;
    // The last token that is known has to be computed, for what follows it to be drawn.
    const int64_t num_blocks =
        std::min<int64_t>(same - known_.begin(), static_cast<int64_t>(known_.size()) - 1) /
        block_size;
    blocks_.assign(prefix_source_->prompt_blocks_.begin(),
                   prefix_source_->prompt_blocks_.begin() + num_blocks);
    next_position_ = static_cast<int32_t>(num_blocks * block_size);
    num_cached_ += next_position_;
    chunk.new_blocks = blocks_;
  }
  void AddTargets(SequenceChunk& chunk) const {
    if (request_.init.num_prompt_logprobs < 0 || num_preempted_ > 0) return;
    const int32_t end = next_position_ + static_cast<int32_t>(chunk.tokens.size());
    for (int32_t position = next_position_ + 1; position <= std::min(end, PromptTokens() - 1);
         ++position) {
      chunk.logprob_targets.push_back(request_.prompt[static_cast<size_t>(position)]);
    }
  }
  int32_t ChunkEnd(int32_t known_tokens) const {
    int32_t end = known_tokens;
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
  const uint32_t choice_index_;
  HarnessOutput& output_;
  Sequence* parent_ = nullptr;
  const Sequence* prefix_source_ = nullptr;
  std::vector<Sequence*> forks_;
  std::vector<int32_t> known_;  // tokens of the prompt, and those drawn
  int32_t next_position_ = 0;
  size_t num_preempted_ = 0;
  std::vector<int32_t> blocks_;
  std::vector<int32_t> prompt_blocks_;  // where others take the prompt's cache from
  int prompt_computed_in_ = -1;         // step
  int64_t num_cached_ = 0;              // tokens taken from prefix_source_
  bool sampled_ = false;
  bool has_drawn_ = false;  // a token since its admission
};

absl::StatusOr<std::unique_ptr<ModelHarness>> ModelHarness::Create(const HarnessOptions& options) {
  auto harness = std::unique_ptr<ModelHarness>(new ModelHarness(options));
  harness->captures_.resize(static_cast<size_t>(options.num_ranks));
  BackendFactory make_backend = options.make_backend;
  if (!make_backend) {
    const CpuBackendOptions cpu{.isa = options.isa,
                                .activation_dtype = options.dtype,
                                .pool = std::make_shared<ThreadPool>(options.num_threads)};
    make_backend = [cpu](int) { return MakeCpuBackend(cpu); };
  }
  ThreadWorkerGroupOptions group;
  group.config = options.config;
  group.weights = options.weights;
  group.make_backend = [make_backend,
                        raw = harness.get()](int rank) -> absl::StatusOr<std::unique_ptr<Backend>> {
    MOED_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, make_backend(rank));
    if (!raw->options_.capture_logits) return backend;
    return std::make_unique<CapturingBackend>(std::move(backend),
                                              raw->captures_[static_cast<size_t>(rank)]);
  };
  group.make_group = options.make_group;
  group.num_ranks = options.num_ranks;
  group.block_size = options.block_size;
  group.num_kv_blocks = options.num_kv_blocks;
  group.max_sequences_per_rank = options.max_sequences;
  group.max_rows_per_step = options.max_rows;
  group.max_gather_rows = options.max_rows;
  group.max_experts_per_token = options.max_experts_per_token;
  group.capacity_factor = options.capacity_factor;
  group.trace_routing = options.trace_routing;
  group.rank_timeout = std::chrono::minutes(5);
  harness->group_ = std::make_unique<ThreadWorkerGroup>(std::move(group));
  MOED_RETURN_IF_ERROR(harness->group_->Start(nullptr).status());
  return harness;
}

absl::StatusOr<HarnessRun> ModelHarness::Run(const std::vector<HarnessRequest>& requests) {
  HarnessRun run;
  const size_t num_layers = static_cast<size_t>(options_.config.num_layers);
  run.outputs.resize(requests.size());
  run.expert_counts.assign(num_layers * static_cast<size_t>(options_.config.num_experts), 0);
  run.repetition.same_first.assign(num_layers, 0);
  run.repetition.any_shared.assign(num_layers, 0);
  std::vector<int32_t> slots_used(static_cast<size_t>(options_.num_ranks), 0);
  std::vector<std::unique_ptr<Sequence>> sequences;
  std::vector<const Sequence*> firsts;  // by request
  for (size_t i = 0; i < requests.size(); ++i) {
    const int rank = requests[i].home_rank % options_.num_ranks;
    int32_t& next_slot = slots_used[static_cast<size_t>(rank)];
    HarnessOutput& output = run.outputs[i];
    sequences.push_back(
        std::make_unique<Sequence>(requests[i], rank, next_slot++, /*choice_index=*/0, output));
    Sequence& first = *sequences.back();
    firsts.push_back(&first);
    if (requests[i].prefix_of >= 0) {
      first.ShareWith(*firsts.at(static_cast<size_t>(requests[i].prefix_of)));
    }
    output.forks.resize(static_cast<size_t>(requests[i].init.sampling.n) - 1);
    for (size_t fork = 0; fork < output.forks.size(); ++fork) {
      sequences.push_back(std::make_unique<Sequence>(
          requests[i], rank, next_slot++, static_cast<uint32_t>(fork + 1), output.forks[fork]));
      sequences.back()->ForkFrom(first);
    }
  }
  std::vector<int32_t> blocks(static_cast<size_t>(options_.num_kv_blocks));
  std::iota(blocks.rbegin(), blocks.rend(), 0);
  if (options_.block_order_seed != 0) {
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937_64(options_.block_order_seed));
  }
  free_blocks_.assign(static_cast<size_t>(options_.num_ranks), blocks);
  while (std::any_of(sequences.begin(), sequences.end(),
                     [](const auto& sequence) { return !sequence->done(); })) {
    MOED_RETURN_IF_ERROR(Step(sequences, run));
  }
  for (const auto& sequence : sequences) run.num_cached_rows += sequence->num_cached();
  return run;
}

absl::Status ModelHarness::Step(std::vector<std::unique_ptr<Sequence>>& sequences,
                                HarnessRun& run) {
  std::vector<RankBatch> batches(static_cast<size_t>(options_.num_ranks));
  for (const auto& sequence : sequences) {
    if (!sequence->Runs(run.num_steps)) continue;
    const size_t rank = static_cast<size_t>(sequence->rank());
    sequence->AddTo(batches[rank], free_blocks_[rank], options_.block_size, run.num_steps);
    const int64_t k = sequence->experts_per_token();
    run.num_pairs += static_cast<int64_t>(batches[rank].chunks.back().tokens.size()) *
                     (k > 0 ? k : options_.config.top_k);
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
  MOED_RETURN_IF_ERROR(group_->Launch(batches));
  MOED_ASSIGN_OR_RETURN(std::vector<RankResult> results, group_->Await());

  std::vector<size_t> taken(results.size(), 0);
  for (const auto& sequence : sequences) {
    const size_t rank = static_cast<size_t>(sequence->rank());
    for (const ChunkReport& report : results[rank].reports) {
      if (report.slot == sequence->slot()) sequence->Take(report);
    }
    if (!sequence->sampled()) continue;
    const size_t row = taken[rank]++;
    sequence->Take(results[rank].samples.at(row),
                   options_.capture_logits ? &captures_[rank].rows.at(row) : nullptr);
  }
  for (const RankResult& result : results) Add(result, run);
  if (options_.trace_routing) run.steps.push_back({std::move(batches), std::move(results)});
  return absl::OkStatus();
}

void ModelHarness::Add(const RankResult& result, HarnessRun& run) {
  const auto add = [](const std::vector<int64_t>& from, std::vector<int64_t>& to) {
    for (size_t i = 0; i < from.size(); ++i) to[i] += from[i];
  };
  add(result.expert_counts, run.expert_counts);
  add(result.repetition.same_first, run.repetition.same_first);
  add(result.repetition.any_shared, run.repetition.any_shared);
  run.repetition.num_rows += result.repetition.num_rows;
  run.dropped_pairs += result.dropped_pairs;
}

}  // namespace moed
