#include "runtime/engine/rank_inputs.h"

#include <algorithm>
#include <cstddef>

#include "absl/types/span.h"
#include "kernels/core/check.h"
#include "kernels/core/dtype.h"
#include "kernels/core/status.h"
#include "runtime/model/tensor_bytes.h"

namespace moed {
namespace {

// Tensors start on cache lines.
constexpr int64_t kAlignElements = 16;

int64_t Padded(int64_t elements) {
  return AddBytes(elements, kAlignElements - 1) / kAlignElements * kAlignElements;
}

}  // namespace

RankInputs::Layout::Layout(const Limits& limits) {
  int64_t end = 0;
  const auto place = [&end](int64_t elements) {
    const int64_t start = end;
    end = AddBytes(end, Padded(elements));
    return start;
  };
  input_tokens = place(limits.max_rows);
  positions = place(limits.max_rows);
  slot_mapping = place(limits.max_rows);
  chunk_starts = place(AddBytes(limits.max_chunks, 1));
  context_lengths = place(limits.max_chunks);
  logit_rows = place(limits.max_chunks);
  num_choices = place(limits.max_rows);
  scored_rows = place(limits.max_rows);
  scored_targets = place(limits.max_rows);
  block_tables = place(MulBytes(limits.max_chunks, limits.max_blocks_per_chunk));
  num_elements = end;
}

int64_t RankInputs::Bytes(const Limits& limits) {
  return TensorBytes(DType::kInt32, {Layout(limits).num_elements});
}

absl::StatusOr<std::unique_ptr<RankInputs>> RankInputs::Create(Backend& backend,
                                                               const Limits& limits) {
  auto inputs = std::unique_ptr<RankInputs>(new RankInputs(backend, limits));
  const int64_t bytes = Bytes(limits);
  MOED_ASSIGN_OR_RETURN(inputs->staging_, backend.AllocateStaging(bytes));
  MOED_ASSIGN_OR_RETURN(inputs->device_, backend.Allocate(MemoryKind::kActivations, bytes));
  return inputs;
}

void RankInputs::WriteRows(const SequenceChunk& chunk, const RankSlots& slots, Written& written) {
  const int32_t num_choices = slots.experts_per_token(chunk.slot);
  if (num_choices != limits_.max_experts_per_token) written.all_have_most_choices = false;
  int32_t position = chunk.start_position;
  for (const int32_t token : chunk.tokens) {
    const int32_t row = written.rows++;
    // A negative token tells Embed the slot: EmbedArgs::input_tokens.
    Host(layout_.input_tokens)[row] = token == kLastSampledToken ? -1 - chunk.slot : token;
    Host(layout_.positions)[row] = position;
    Host(layout_.slot_mapping)[row] = slots.CacheSlot(chunk.slot, position);
    Host(layout_.num_choices)[row] = num_choices;
    written.num_pairs += num_choices;
    ++position;
  }
}

void RankInputs::WriteLogitRows(const SequenceChunk& chunk, int32_t first_row, Written& written) {
  const int64_t num_draws = chunk.sample ? 1 + static_cast<int64_t>(chunk.fork_slots.size()) : 0;
  MOED_CHECK(chunk.sample || chunk.fork_slots.empty(), "a fork of a chunk that draws nothing");
  MOED_CHECK(written.logit_rows + num_draws <= limits_.max_chunks, "more draws than sequences");
  for (int64_t draw = 0; draw < num_draws; ++draw) {
    Host(layout_.logit_rows)[written.logit_rows++] = written.rows - 1;
  }
  MOED_CHECK(chunk.logprob_targets.size() <= chunk.tokens.size(), "more targets than tokens");
  int32_t row = first_row;
  for (const int32_t target : chunk.logprob_targets) {
    Host(layout_.scored_rows)[written.scored_rows] = row++;
    Host(layout_.scored_targets)[written.scored_rows] = target;
    ++written.scored_rows;
  }
}

StepInput RankInputs::Load(Stream& stream, const RankBatch& batch, const RankSlots& slots) {
  const int64_t num_chunks = static_cast<int64_t>(batch.chunks.size());
  MOED_CHECK(num_chunks <= limits_.max_chunks, "more chunks than sequences");
  MOED_CHECK(batch.num_rows() <= limits_.max_rows, "more rows than a step's budget");
  int64_t max_blocks = 0;
  for (const SequenceChunk& chunk : batch.chunks) {
    max_blocks = std::max(max_blocks, static_cast<int64_t>(slots.blocks(chunk.slot).size()));
  }

  Written written;
  Host(layout_.chunk_starts)[0] = 0;
  for (int64_t c = 0; c < num_chunks; ++c) {
    const SequenceChunk& chunk = batch.chunks[static_cast<size_t>(c)];
    const int32_t first_row = written.rows;
    WriteRows(chunk, slots, written);
    WriteLogitRows(chunk, first_row, written);
    Host(layout_.chunk_starts)[c + 1] = written.rows;
    Host(layout_.context_lengths)[c] = chunk.start_position + written.rows - first_row;
    const absl::Span<const int32_t> blocks = slots.blocks(chunk.slot);
    int32_t* table = Host(layout_.block_tables) + c * max_blocks;
    std::fill(std::copy(blocks.begin(), blocks.end(), table), table + max_blocks, 0);
  }

  const int64_t used = layout_.block_tables + num_chunks * max_blocks;
  backend_.CopyToDevice(stream, ConstTensorView(Host(0), DType::kInt32, {used}),
                        TensorView(Device(0), DType::kInt32, {used}));
  const auto view = [this](int64_t element, int64_t count) {
    return ConstTensorView(Device(element), DType::kInt32, {count});
  };
  StepInput input;
  ForwardInput& forward = input.forward;
  forward.step = batch.step;
  forward.exchange = {.strategy = batch.exchange, .padded_rows = batch.padded_rows};
  forward.input_tokens = view(layout_.input_tokens, written.rows);
  forward.positions = view(layout_.positions, written.rows);
  forward.slot_mapping = view(layout_.slot_mapping, written.rows);
  forward.chunk_starts = view(layout_.chunk_starts, num_chunks + 1);
  forward.context_lengths = view(layout_.context_lengths, num_chunks);
  forward.block_tables =
      ConstTensorView(Device(layout_.block_tables), DType::kInt32, {num_chunks, max_blocks});
  if (!written.all_have_most_choices) {
    forward.num_choices = view(layout_.num_choices, written.rows);
  }
  input.logit_rows = view(layout_.logit_rows, written.logit_rows);
  input.scored_rows = view(layout_.scored_rows, written.scored_rows);
  input.scored_targets = view(layout_.scored_targets, written.scored_rows);
  input.num_pairs = written.num_pairs;
  return input;
}

}  // namespace moed
