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
  MOED_ASSIGN_OR_RETURN(inputs->staging_, AllocateHostBuffer(bytes));
  MOED_ASSIGN_OR_RETURN(inputs->device_, backend.Allocate(MemoryKind::kActivations, bytes));
  return inputs;
}

void RankInputs::Load(Stream& stream, const RankBatch& batch, const RankSlots& slots,
                      ForwardInput& input) {
  const int64_t num_chunks = static_cast<int64_t>(batch.chunks.size());
  MOED_CHECK(num_chunks <= limits_.max_chunks, "more chunks than sequences");
  MOED_CHECK(batch.num_rows() <= limits_.max_rows, "more rows than a step's budget");
  int64_t max_blocks = 0;
  for (const SequenceChunk& chunk : batch.chunks) {
    max_blocks = std::max(max_blocks, static_cast<int64_t>(slots.blocks(chunk.slot).size()));
  }

  int32_t row = 0;
  int64_t num_logit_rows = 0;
  Host(layout_.chunk_starts)[0] = 0;
  for (int64_t c = 0; c < num_chunks; ++c) {
    const SequenceChunk& chunk = batch.chunks[static_cast<size_t>(c)];
    int32_t position = chunk.start_position;
    for (const int32_t token : chunk.tokens) {
      // A negative token tells Embed the slot: EmbedArgs::input_tokens.
      Host(layout_.input_tokens)[row] = token == kLastSampledToken ? -1 - chunk.slot : token;
      Host(layout_.positions)[row] = position;
      Host(layout_.slot_mapping)[row] = slots.CacheSlot(chunk.slot, position);
      ++row;
      ++position;
    }
    Host(layout_.chunk_starts)[c + 1] = row;
    Host(layout_.context_lengths)[c] = position;
    if (chunk.sample) Host(layout_.logit_rows)[num_logit_rows++] = row - 1;
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
  input.input_tokens = view(layout_.input_tokens, row);
  input.positions = view(layout_.positions, row);
  input.slot_mapping = view(layout_.slot_mapping, row);
  input.chunk_starts = view(layout_.chunk_starts, num_chunks + 1);
  input.context_lengths = view(layout_.context_lengths, num_chunks);
  input.logit_rows = view(layout_.logit_rows, num_logit_rows);
  input.block_tables =
      ConstTensorView(Device(layout_.block_tables), DType::kInt32, {num_chunks, max_blocks});
}

}  // namespace moed
