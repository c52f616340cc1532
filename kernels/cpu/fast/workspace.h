// Scratch memory of the fast backend, sized once.
#pragma once

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/buffer.h"
#include "kernels/cpu/fast/scratch_slots.h"
#include "kernels/cpu/simd/isa_kernels.h"

namespace moed::fast {

inline constexpr int64_t kProductRowBlock = 96;  // rows of a product between two panels
inline constexpr int64_t kFfnPairs = 1024;       // pairs of an expert pass
inline constexpr int64_t kAttentionRows = 64;    // query heads of tokens of an attention item

// Rows [begin, end) of the pairs of one pass belong to one local expert.
struct ExpertSegment {
  int32_t expert;
  int32_t begin;
  int32_t end;
};

// Consecutive tokens of one chunk.
struct AttentionItem {
  int32_t chunk;
  int32_t first_token;
  int32_t num_tokens;
};

// Query rows that one attention item may have.
int64_t MaxAttentionRows(int64_t heads_per_kv_head);

struct Workspace {
  ScratchSlots slots;

  float* widened = nullptr;  // activations of a product, where bfloat16 must be widened
  int64_t widened_floats = 0;

  void* ffn_inner = nullptr;  // [ffn_pairs, ffn], float or bfloat16 pairs
  int64_t ffn_pairs = 0;
  int64_t ffn = 0;

  ExpertSegment* segments = nullptr;
  int64_t num_segments = 0;

  AttentionItem* attention_items = nullptr;
  int64_t num_attention_items = 0;

  Buffer memory;
};

// What MakeWorkspace allocates; the largest int64_t where that is too much to count.
int64_t WorkspaceBytes(const WorkspaceLimits& limits, const IsaKernels& isa, DType act,
                       int num_threads);

// RESOURCE_EXHAUSTED where the limits need more than there is.
absl::StatusOr<Workspace> MakeWorkspace(
    const WorkspaceLimits& limits, const IsaKernels& isa, DType act, int num_threads,
    absl::FunctionRef<absl::StatusOr<Buffer>(int64_t bytes)> allocate);

}  // namespace moed::fast
