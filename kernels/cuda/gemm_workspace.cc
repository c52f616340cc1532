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

int64_t QkvWidth(const WorkspaceLimits& limits) {
  return (limits.num_heads + 2 * limits.num_kv_heads) * limits.head_dim;
}

int64_t PartialFloats(const WorkspaceLimits& limits, int64_t pairs) {
  const auto partials = [](int64_t rows, int64_t n) {
    return rows > kMaxStreamRows ? UsefulPartials(rows, n) : 0;
  };
  return std::max({partials(limits.max_rows, std::max(QkvWidth(limits), limits.hidden)),
                   partials(limits.max_logit_rows, limits.vocab),
                   partials(pairs, std::max(InterleavedRows(limits.ffn), limits.hidden))});
}

}  // namespace

absl::StatusOr<GemmWorkspace> MakeGemmWorkspace(CudaMemory& memory, const WorkspaceLimits& limits,
                                                DType act, bool has_library) {
  const auto allocate = [&](int64_t elements, DType dtype) {
    return memory.Allocate(MemoryKind::kWorkspace, elements * DTypeBytes(dtype));
  };
  GemmWorkspace workspace;
  const int64_t max_pairs = MaxPairs(limits);
  workspace.pairs_per_pass = std::min(max_pairs, kPairsPerPass);
  workspace.ffn = limits.ffn;
  if (act == DType::kBFloat16) {
    MOED_ASSIGN_OR_RETURN(
        workspace.partials,
        allocate(PartialFloats(limits, workspace.pairs_per_pass), DType::kFloat32));
  }
  MOED_ASSIGN_OR_RETURN(workspace.inner, allocate(workspace.pairs_per_pass * limits.ffn, act));
  if (has_library && max_pairs >= kLibraryPairs) {
    workspace.library_pairs = kLibraryPairs;
    MOED_ASSIGN_OR_RETURN(workspace.gathered, allocate(kLibraryPairs * limits.hidden, act));
    MOED_ASSIGN_OR_RETURN(workspace.gate_up,
                          allocate(kLibraryPairs * InterleavedRows(limits.ffn), DType::kFloat32));
  }
  return workspace;
}

int64_t LibraryWorkspaceBytes(const WorkspaceLimits& limits, DType act) {
  constexpr int64_t kMost = int64_t{32} << 20;
  const int64_t widest =
      std::max({InterleavedRows(limits.ffn), limits.vocab, QkvWidth(limits), limits.hidden});
  return std::min(kMost, widest * limits.hidden * DTypeBytes(act));
}

}  // namespace moed::cuda
