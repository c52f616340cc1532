#include "kernels/cuda/attention.h"

#include <algorithm>
#include <limits>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "kernels/core/dtype.h"
#include "kernels/core/status.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/paged_attention.h"

namespace moed::cuda {
namespace {

bool FitsInt(int64_t value) { return value <= std::numeric_limits<int32_t>::max(); }

absl::Status CheckSizes(int64_t head_dim, int64_t context_tokens) {
  if (head_dim > kMaxHeadDim) {
    return absl::InvalidArgumentError(absl::StrCat("head_dim ", head_dim, " is above the ",
                                                   kMaxHeadDim,
                                                   " that attention on CUDA has code for"));
  }
  if (!FitsInt(context_tokens + kPieceTokens)) {
    return absl::InvalidArgumentError(
        absl::StrCat("contexts of ", context_tokens, " tokens are too long for attention on CUDA"));
  }
  return absl::OkStatus();
}

// Floats of one partial result: of every head a row of sums and two statistics.
int64_t PartialFloats(int64_t num_heads, int64_t head_dim) { return num_heads * (head_dim + 2); }

PagedAttentionParams ParamsOf(const PagedAttentionArgs& args, const Buffer& scratch) {
  PagedAttentionParams params;
  params.q = args.q.data<float>();
  params.k_cache = args.k_cache.raw();
  params.v_cache = args.v_cache.raw();
  params.chunk_starts = args.chunk_starts.data<int32_t>();
  params.context_lengths = args.context_lengths.data<int32_t>();
  params.block_tables = args.block_tables.data<int32_t>();
  params.out = args.out.raw();
  params.num_tokens = static_cast<int>(args.q.dim(0));
  params.num_chunks = static_cast<int>(args.context_lengths.dim(0));
  params.max_blocks = static_cast<int>(args.block_tables.dim(1));
  params.num_heads = static_cast<int>(args.q.dim(1));
  params.num_kv_heads = static_cast<int>(args.k_cache.dim(1));
  params.head_dim = static_cast<int>(args.q.dim(2));
  params.block_size = static_cast<int>(args.k_cache.dim(2));
  params.sliding_window = args.sliding_window;
  params.scale_log2 = args.scale * std::numbers::log2e_v<float>;
  const int64_t floats = scratch.bytes() / static_cast<int64_t>(sizeof(float));
  params.partial_capacity = floats / PartialFloats(params.num_heads, params.head_dim);
  params.partial_sums = static_cast<float*>(scratch.data());
  if (params.partial_capacity > 0) {
    params.partial_stats =
        params.partial_sums + params.partial_capacity * params.num_heads * params.head_dim;
  }
  return params;
}

// What the shapes alone tell of the chunks.
struct Ways {
  bool split = true;   // some chunk may be split
  bool joined = true;  // and have several pieces
  bool whole = true;   // some may not be split
};

Ways WaysOf(const PagedAttentionParams& params) {
  Ways ways;
  const int64_t positions = static_cast<int64_t>(params.max_blocks) * params.block_size;
  const int64_t pieces = BlocksFor(positions, kPieceTokens);
  ways.split = params.num_chunks > 1 || params.num_tokens <= MaxSplitTokens(params);
  ways.joined = ways.split && pieces > 1;
  ways.whole = params.num_tokens > MaxSplitTokens(params) ||
               (pieces > 1 && params.num_tokens * pieces > params.partial_capacity);
  return ways;
}

}  // namespace

absl::StatusOr<int64_t> PagedAttentionKernels::ScratchBytes(const WorkspaceLimits& limits) {
  MOED_RETURN_IF_ERROR(CheckSizes(limits.head_dim, limits.max_context_tokens));
  const int64_t pieces = BlocksFor(limits.max_context_tokens, kPieceTokens);
  const int64_t partials =
      pieces <= 1 ? 0 : std::min(kMaxPartials, std::min(limits.max_rows, kMaxPartials) * pieces);
  return partials * PartialFloats(limits.num_heads, limits.head_dim) *
         static_cast<int64_t>(sizeof(float));
}

absl::StatusOr<std::unique_ptr<PagedAttentionKernels>> PagedAttentionKernels::Create(
    CudaMemory& memory, const WorkspaceLimits& limits) {
  MOED_ASSIGN_OR_RETURN(const int64_t bytes, ScratchBytes(limits));
  MOED_ASSIGN_OR_RETURN(Buffer scratch, memory.Allocate(MemoryKind::kWorkspace, bytes));
  return std::unique_ptr<PagedAttentionKernels>(new PagedAttentionKernels(std::move(scratch)));
}

void PagedAttentionKernels::Run(CudaStream& stream, const PagedAttentionArgs& args) {
  if (args.out.empty() || args.context_lengths.empty()) return;
  absl::Status status = CheckSizes(args.q.dim(2), args.block_tables.dim(1) * args.k_cache.dim(2));
  if (status.ok() && !(FitsInt(args.q.dim(0) * args.q.dim(1)) &&
                       FitsInt(args.k_cache.dim(0) * args.k_cache.dim(1) * args.k_cache.dim(2)))) {
    status = absl::InvalidArgumentError("PagedAttention: more than 2^31 rows of queries or cache");
  }
  if (!status.ok()) {
    stream.Note(std::move(status));
    return;
  }
  const PagedAttentionParams params = ParamsOf(args, scratch_);
  const bool bf16 = args.k_cache.dtype() == DType::kBFloat16;
  const LaunchContext& context = stream.context();
  const Ways ways = WaysOf(params);
  const auto launch = [&](bool wanted, auto* for_bf16, auto* for_f32) {
    if (wanted) stream.Note((bf16 ? for_bf16 : for_f32)(context, params), "PagedAttention");
  };
  launch(ways.split, LaunchSplitAttentionBf16, LaunchSplitAttentionF32);
  launch(ways.joined, LaunchJoinAttention<BFloat16>, LaunchJoinAttention<float>);
  launch(ways.whole, LaunchWholeAttentionBf16, LaunchWholeAttentionF32);
}

}  // namespace moed::cuda
