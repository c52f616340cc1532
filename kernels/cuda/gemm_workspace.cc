#include "kernels/cuda/gemm_workspace.h"

#include <algorithm>

#include "kernels/core/status.h"
#include "kernels/cuda/gemm_params.h"
#include "kernels/cuda/stream_gemm.h"
#include "kernels/cuda/tile_gemm.h"

namespace moed::cuda {
namespace {

int64_t MaxPairs(const WorkspaceLimits& limits) {
  return limits.max_expert_rows * std::max<int64_t>(1, std::min(limits.top_k, limits.num_experts));
}

int64_t PartialFloats(const WorkspaceLimits& limits, int64_t pairs) {
  const auto partials = [](int64_t rows, int64_t n) {
    return rows > kMaxStreamRows ? UsefulPartials(rows, n) : 0;
  };
  return std::max({partials(limits.max_rows, std::max(QkvWidth(limits), limits.hidden)),
                   partials(limits.max_logit_rows, limits.vocab),
                   partials(pairs, std::max(InterleavedRows(limits.ffn), limits.hidden))});
}

// Of the buffers of a GemmWorkspace, in bytes.
struct Sizes {
  int64_t pairs_per_pass = 0;
  int64_t library_pairs = 0;
  int64_t partials = 0;
  int64_t inner = 0;
  int64_t gathered = 0;
  int64_t gate_up = 0;
};

Sizes SizesOf(const WorkspaceLimits& limits, DType act, bool has_library) {
  constexpr auto kFloatBytes = static_cast<int64_t>(sizeof(float));
  const int64_t max_pairs = MaxPairs(limits);
  Sizes sizes;
  sizes.pairs_per_pass = std::min(max_pairs, kPairsPerPass);
  if (act == DType::kBFloat16) {
    sizes.partials = PartialFloats(limits, sizes.pairs_per_pass) * kFloatBytes;
  }
  sizes.inner = sizes.pairs_per_pass * limits.ffn * DTypeBytes(act);
  if (has_library && max_pairs >= kLibraryPairs) {
    sizes.library_pairs = kLibraryPairs;
    sizes.gathered = kLibraryPairs * limits.hidden * DTypeBytes(act);
    sizes.gate_up = kLibraryPairs * InterleavedRows(limits.ffn) * kFloatBytes;
  }
  return sizes;
}

}  // namespace

int64_t QkvWidth(const WorkspaceLimits& limits) {
  return (limits.num_heads + 2 * limits.num_kv_heads) * limits.head_dim;
}

int64_t GemmWorkspaceBytes(const WorkspaceLimits& limits, DType act, bool has_library) {
  const Sizes sizes = SizesOf(limits, act, has_library);
  return sizes.partials + sizes.inner + sizes.gathered + sizes.gate_up;
}

absl::StatusOr<GemmWorkspace> MakeGemmWorkspace(CudaMemory& memory, const WorkspaceLimits& limits,
                                                DType act, bool has_library) {
  const Sizes sizes = SizesOf(limits, act, has_library);
  const auto allocate = [&](int64_t bytes) {
    return memory.Allocate(MemoryKind::kWorkspace, bytes);
  };
  GemmWorkspace workspace;
  workspace.pairs_per_pass = sizes.pairs_per_pass;
  workspace.ffn = limits.ffn;
  workspace.library_pairs = sizes.library_pairs;
  MOED_ASSIGN_OR_RETURN(workspace.partials, allocate(sizes.partials));
  MOED_ASSIGN_OR_RETURN(workspace.inner, allocate(sizes.inner));
  MOED_ASSIGN_OR_RETURN(workspace.gathered, allocate(sizes.gathered));
  MOED_ASSIGN_OR_RETURN(workspace.gate_up, allocate(sizes.gate_up));
  return workspace;
}

int64_t LibraryWorkspaceBytes(const WorkspaceLimits& limits, DType act) {
  constexpr int64_t kMost = int64_t{32} << 20;
  const int64_t widest =
      std::max({InterleavedRows(limits.ffn), limits.vocab, QkvWidth(limits), limits.hidden});
  return std::min(kMost, widest * limits.hidden * DTypeBytes(act));
}

}  // namespace moed::cuda
