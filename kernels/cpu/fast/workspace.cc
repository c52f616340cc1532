#include "kernels/cpu/fast/workspace.h"

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <utility>

#include "kernels/core/checked_math.h"
#include "kernels/core/status.h"

namespace moed::fast {
namespace {

constexpr int64_t kTooMuch = std::numeric_limits<int64_t>::max();

// Sums and products that stick at the largest number, which no allocation grants.
int64_t Product(std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  for (const int64_t factor : factors) product = CheckedMul(product, factor).value_or(kTooMuch);
  return product;
}

int64_t Sum(std::initializer_list<int64_t> terms) {
  int64_t sum = 0;
  for (const int64_t term : terms) sum = CheckedAdd(sum, term).value_or(kTooMuch);
  return sum;
}

int64_t Aligned(int64_t bytes) {
  constexpr int64_t kAlignment = 64;
  return bytes > kTooMuch - kAlignment ? kTooMuch
                                       : (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

int64_t SlotBytes(const WorkspaceLimits& limits, const IsaKernels& isa) {
  const int64_t group = limits.num_kv_heads == 0 ? 1 : limits.num_heads / limits.num_kv_heads;
  constexpr int64_t kLargestDimension = int64_t{1} << 30;  // keeps the products below in range
  const int64_t attention_floats =
      AttentionScratchFloats(std::min(MaxAttentionRows(group), kLargestDimension),
                             std::min(limits.head_dim, kLargestDimension));
  const int64_t sampler_bytes =
      Product({limits.vocab, int64_t{sizeof(float)} + int64_t{sizeof(uint64_t)}});
  return Aligned(std::max(
      {Product({attention_floats, 4}), Product({kProductRowBlock + 1, isa.panel_columns, 4}),
       Product({std::max(limits.num_experts, limits.hidden), 4}), Sum({sampler_bytes, 64})}));
}

// Sizes of the parts of a workspace, and their bytes where they lie one after the other.
struct Layout {
  int64_t widened_floats = 0;
  int64_t ffn_pairs = 0;
  int64_t slot_bytes = 0;
  int64_t slots_bytes = 0;
  int64_t widened_bytes = 0;
  int64_t ffn_bytes = 0;
  int64_t segments_bytes = 0;
  int64_t items_bytes = 0;

  int64_t bytes() const {
    return Sum({slots_bytes, widened_bytes, ffn_bytes, segments_bytes, items_bytes});
  }
};

Layout LayoutOf(const WorkspaceLimits& limits, const IsaKernels& isa, DType act, int num_threads) {
  const bool widens = act == DType::kBFloat16 && !isa.bf16_pairs;
  const int64_t inner_bytes = act == DType::kBFloat16 && isa.bf16_pairs ? 2 : 4;
  const int64_t rows = std::max(limits.max_rows, limits.max_logit_rows);
  const int64_t widest = std::max(limits.hidden, Product({limits.num_heads, limits.head_dim}));
  const int64_t pairs = Product(
      {limits.max_expert_rows, std::max<int64_t>(1, std::min(limits.top_k, limits.num_experts))});

  Layout layout;
  layout.widened_floats =
      widens ? std::max(Product({rows, widest}), Product({limits.max_expert_rows, limits.hidden}))
             : 0;
  layout.ffn_pairs = std::min(pairs, kFfnPairs);
  layout.slot_bytes = SlotBytes(limits, isa);
  layout.slots_bytes = Aligned(Product({layout.slot_bytes, num_threads}));
  layout.widened_bytes = Aligned(Product({layout.widened_floats, 4}));
  layout.ffn_bytes = Aligned(Product({layout.ffn_pairs, limits.ffn, inner_bytes}));
  layout.segments_bytes = Aligned(Product({limits.num_experts, int64_t{sizeof(ExpertSegment)}}));
  layout.items_bytes = Aligned(Product({limits.max_rows, int64_t{sizeof(AttentionItem)}}));
  return layout;
}

}  // namespace

int64_t MaxAttentionRows(int64_t heads_per_kv_head) {
  return std::max(kAttentionRows, heads_per_kv_head);
}

int64_t WorkspaceBytes(const WorkspaceLimits& limits, const IsaKernels& isa, DType act,
                       int num_threads) {
  return LayoutOf(limits, isa, act, num_threads).bytes();
}

absl::StatusOr<Workspace> MakeWorkspace(
    const WorkspaceLimits& limits, const IsaKernels& isa, DType act, int num_threads,
    absl::FunctionRef<absl::StatusOr<Buffer>(int64_t bytes)> allocate) {
  const Layout layout = LayoutOf(limits, isa, act, num_threads);
  Workspace workspace;
  workspace.widened_floats = layout.widened_floats;
  workspace.ffn_pairs = layout.ffn_pairs;
  workspace.ffn = limits.ffn;
  workspace.num_segments = limits.num_experts;
  workspace.num_attention_items = limits.max_rows;
  MOED_ASSIGN_OR_RETURN(workspace.memory, allocate(layout.bytes()));

  auto* next = static_cast<std::byte*>(workspace.memory.data());
  workspace.slots = ScratchSlots(next, num_threads, layout.slot_bytes);
  next += layout.slots_bytes;
  workspace.widened = reinterpret_cast<float*>(next);
  next += layout.widened_bytes;
  workspace.ffn_inner = next;
  next += layout.ffn_bytes;
  workspace.segments = reinterpret_cast<ExpertSegment*>(next);
  next += layout.segments_bytes;
  workspace.attention_items = reinterpret_cast<AttentionItem*>(next);
  return workspace;
}

}  // namespace moed::fast
