#include "kernels/cuda/gemm.h"

#include <algorithm>
#include <cstddef>
#include <set>
#include <utility>

#include "kernels/check_weights.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "kernels/cuda/expert_rows.h"
#include "kernels/cuda/gemm_algorithms.h"
#include "kernels/cuda/gemm_params.h"
#include "kernels/cuda/gemm_workspace.h"
#include "kernels/cuda/packed_weights.h"
#include "kernels/cuda/stream_gemm.h"
#include "kernels/cuda/tile_gemm.h"

namespace moed::cuda {
namespace {

// Up to here the weights' bytes are the time, and our kernels read them once.
constexpr int64_t kMaxOwnRows = 64;

// What the library may be given.
bool IsAligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; }

}  // namespace

class GemmKernels::Impl {
 public:
  Impl(CudaMemory& memory, std::unique_ptr<GemmAlgorithms> library, DType act)
      : memory_(memory), library_(std::move(library)), act_(act) {}

  absl::Status PrepareWorkspace(const WorkspaceLimits& limits);
  int64_t WorkspaceBytes(const WorkspaceLimits& limits) const;
  absl::StatusOr<std::unique_ptr<LinearWeight>> PackLinear(CudaStream& stream,
                                                           absl::Span<const ConstTensorView> parts);
  absl::StatusOr<std::unique_ptr<ExpertWeight>> PackExpert(CudaStream& stream, ConstTensorView w1,
                                                           ConstTensorView w2, ConstTensorView w3);
  void Linear(CudaStream& stream, const LinearArgs& args);
  void ExpertFfn(CudaStream& stream, const ExpertFfnArgs& args);

 private:
  using WeightShape = std::pair<int64_t, int64_t>;  // n, k
  // Consecutive experts of one size, as many as a launch takes.
  struct Experts {
    size_t first = 0;
    int count = 0;
    int64_t ffn = 0;
  };

  GemmShape ShapeOf(int64_t m, int64_t n, int64_t k, DType out, bool accumulate = false) const {
    return {.m = m, .n = n, .k = k, .in_dtype = act_, .out_dtype = out, .accumulate = accumulate};
  }
  absl::Status PrepareLinear(const WeightShape& shape);
  absl::Status PrepareExpert(int64_t ffn, int64_t hidden);

  // One of our own kernels. `params` but for what is the same in all products.
  void Multiply(CudaStream& stream, GemmParams params, const char* what);

  const PackedExpert& ExpertAt(const ExpertFfnArgs& args, size_t e) const;
  Experts ExpertsFrom(const ExpertFfnArgs& args, size_t first) const;
  void ComputeExperts(CudaStream& stream, const ExpertFfnArgs& args, const Experts& experts,
                      int64_t begin, int64_t end);
  bool ComputeInLibrary(CudaStream& stream, const ExpertFfnArgs& args, const PackedExpert& expert,
                        int64_t begin, int64_t end);

  CudaMemory& memory_;
  const std::unique_ptr<GemmAlgorithms> library_;  // null: our own kernels compute everything
  const DType act_;
  WorkspaceLimits limits_;
  GemmWorkspace workspace_;
  // What was packed, for the library's algorithms to be found before the first step.
  std::set<WeightShape> linear_shapes_;
  std::set<WeightShape> expert_shapes_;  // ffn, hidden
};

absl::Status GemmKernels::Impl::PrepareWorkspace(const WorkspaceLimits& limits) {
  MOED_RETURN_IF_ERROR(CheckLimits(limits));
  workspace_ = GemmWorkspace();
  MOED_ASSIGN_OR_RETURN(workspace_, MakeGemmWorkspace(memory_, limits, act_, library_ != nullptr));
  limits_ = limits;
  if (library_ == nullptr) return absl::OkStatus();
  MOED_ASSIGN_OR_RETURN(
      Buffer library_memory,
      memory_.Allocate(MemoryKind::kWorkspace, LibraryWorkspaceBytes(limits, act_)));
  library_->SetWorkspace(std::move(library_memory));
  // The replicated weights are packed by one rank for all, so this one may not have seen them.
  linear_shapes_.insert({QkvWidth(limits), limits.hidden});
  linear_shapes_.insert({limits.hidden, limits.num_heads * limits.head_dim});
  linear_shapes_.insert({limits.vocab, limits.hidden});
  for (const WeightShape& shape : linear_shapes_) MOED_RETURN_IF_ERROR(PrepareLinear(shape));
  for (const auto& [ffn, hidden] : expert_shapes_) {
    MOED_RETURN_IF_ERROR(PrepareExpert(ffn, hidden));
  }
  return absl::OkStatus();
}

int64_t GemmKernels::Impl::WorkspaceBytes(const WorkspaceLimits& limits) const {
  const bool has_library = library_ != nullptr;
  return GemmWorkspaceBytes(limits, act_, has_library) +
         (has_library ? LibraryWorkspaceBytes(limits, act_) : 0);
}

absl::Status GemmKernels::Impl::PrepareLinear(const WeightShape& shape) {
  const auto& [n, k] = shape;
  const int64_t max_rows = std::max(limits_.max_rows, limits_.max_logit_rows);
  if (library_ == nullptr || max_rows <= kMaxOwnRows || n == 0 || k == 0) return absl::OkStatus();
  MOED_RETURN_IF_ERROR(library_->Prepare(ShapeOf(0, n, k, DType::kFloat32), max_rows));
  MOED_RETURN_IF_ERROR(library_->Prepare(ShapeOf(0, n, k, DType::kFloat32, true), max_rows));
  if (act_ == DType::kFloat32) return absl::OkStatus();
  return library_->Prepare(ShapeOf(0, n, k, act_), max_rows);
}

absl::Status GemmKernels::Impl::PrepareExpert(int64_t ffn, int64_t hidden) {
  const int64_t pairs = workspace_.library_pairs;
  if (library_ == nullptr || pairs == 0 || ffn == 0 || hidden == 0) return absl::OkStatus();
  MOED_RETURN_IF_ERROR(
      library_->Prepare(ShapeOf(0, InterleavedRows(ffn), hidden, DType::kFloat32), pairs));
  return library_->Prepare(ShapeOf(0, hidden, ffn, act_), pairs);
}

absl::StatusOr<std::unique_ptr<LinearWeight>> GemmKernels::Impl::PackLinear(
    CudaStream& stream, absl::Span<const ConstTensorView> parts) {
  MOED_ASSIGN_OR_RETURN(std::unique_ptr<PackedLinear> packed,
                        PackLinearWeight(memory_, stream, act_, parts));
  const WeightShape shape{packed->out_features(), packed->in_features()};
  if (linear_shapes_.insert(shape).second) MOED_RETURN_IF_ERROR(PrepareLinear(shape));
  return packed;
}

absl::StatusOr<std::unique_ptr<ExpertWeight>> GemmKernels::Impl::PackExpert(CudaStream& stream,
                                                                            ConstTensorView w1,
                                                                            ConstTensorView w2,
                                                                            ConstTensorView w3) {
  MOED_ASSIGN_OR_RETURN(std::unique_ptr<PackedExpert> packed,
                        PackExpertWeight(memory_, stream, act_, w1, w2, w3));
  if (expert_shapes_.insert({packed->ffn(), packed->hidden()}).second) {
    MOED_RETURN_IF_ERROR(PrepareExpert(packed->ffn(), packed->hidden()));
  }
  return packed;
}

void GemmKernels::Impl::Multiply(CudaStream& stream, GemmParams params, const char* what) {
  params.is_bfloat16 = act_ == DType::kBFloat16;
  params.slices = SlicesOf(params.k);
  params.partials = static_cast<float*>(workspace_.partials.data());
  params.num_partials = workspace_.partials.bytes() / DTypeBytes(DType::kFloat32);
  const LaunchContext& context = stream.context();
  if (WindowRows(params) > kMaxStreamRows && CanTile(context, params)) {
    stream.Note(LaunchTileGemm(context, params), what);
  } else {
    stream.Note(LaunchStreamGemm(context, params), what);
  }
}

void GemmKernels::Impl::Linear(CudaStream& stream, const LinearArgs& args) {
  const auto* weight = dynamic_cast<const PackedLinear*>(args.weight);
  MOED_CHECK(weight != nullptr && weight->act() == act_,
             "Linear: the weight was packed by another kind of backend");
  if (args.out.empty()) return;
  const GemmShape shape = ShapeOf(args.x.dim(0), weight->out_features(), weight->in_features(),
                                  args.out.dtype(), args.accumulate);
  if (library_ != nullptr && shape.m > kMaxOwnRows && shape.k > 0 && IsAligned(args.x.raw()) &&
      IsAligned(args.out.raw())) {
    if (const GemmAlgorithm* algorithm = library_->Find(stream, shape); algorithm != nullptr) {
      library_->Multiply(stream, shape, *algorithm, args.x.raw(), weight->data(), args.out.raw());
      return;
    }
  }
  GemmParams params;
  params.weights[0] = weight->data();
  params.window_end = shape.m;
  params.x = args.x.raw();
  params.out = args.out.raw();
  params.n = shape.n;
  params.k = shape.k;
  params.out_columns = shape.n;
  params.output = args.accumulate                       ? GemmOutput::kAccumulate
                  : args.out.dtype() == DType::kFloat32 ? GemmOutput::kFloat
                                                        : GemmOutput::kAct;
  Multiply(stream, params, "Linear");
}

const PackedExpert& GemmKernels::Impl::ExpertAt(const ExpertFfnArgs& args, size_t e) const {
  const auto* expert = dynamic_cast<const PackedExpert*>(args.experts[e]);
  MOED_CHECK(expert != nullptr && expert->act() == act_ && expert->hidden() == args.x.dim(1),
             "ExpertFfn: an expert has another hidden size, or is another backend's");
  MOED_CHECK(expert->ffn() <= workspace_.ffn && workspace_.pairs_per_pass > 0,
             "ExpertFfn: ffn exceeds the workspace's limits");
  return *expert;
}

GemmKernels::Impl::Experts GemmKernels::Impl::ExpertsFrom(const ExpertFfnArgs& args,
                                                          size_t first) const {
  Experts experts{.first = first, .count = 1, .ffn = ExpertAt(args, first).ffn()};
  for (size_t e = first + 1; e < args.experts.size() && experts.count < kMaxGroups; ++e) {
    if (ExpertAt(args, e).ffn() != experts.ffn) break;
    ++experts.count;
  }
  return experts;
}

void GemmKernels::Impl::ExpertFfn(CudaStream& stream, const ExpertFfnArgs& args) {
  const int64_t max_pairs = args.row_index.dim(0);
  if (args.experts.empty() || args.out.empty() || args.x.empty() || max_pairs == 0) return;
  if (args.experts.size() == 1 && library_ != nullptr && max_pairs >= kLibraryPairs &&
      workspace_.library_pairs > 0) {
    const PackedExpert& expert = ExpertAt(args, 0);
    for (int64_t begin = 0; begin < max_pairs; begin += workspace_.library_pairs) {
      const int64_t end = std::min(max_pairs, begin + workspace_.library_pairs);
      if (ComputeInLibrary(stream, args, expert, begin, end)) continue;
      ComputeExperts(stream, args, {.count = 1, .ffn = expert.ffn()}, begin, end);
    }
    return;
  }
  for (size_t e = 0; e < args.experts.size();) {
    const Experts experts = ExpertsFrom(args, e);
    for (int64_t begin = 0; begin < max_pairs; begin += workspace_.pairs_per_pass) {
      ComputeExperts(stream, args, experts, begin,
                     std::min(max_pairs, begin + workspace_.pairs_per_pass));
    }
    e += static_cast<size_t>(experts.count);
  }
}

// Both products for pairs [begin, end), at most pairs_per_pass.
void GemmKernels::Impl::ComputeExperts(CudaStream& stream, const ExpertFfnArgs& args,
                                       const Experts& experts, int64_t begin, int64_t end) {
  GemmParams shared;
  shared.num_groups = experts.count;
  shared.group_offsets = args.expert_offsets.data<int32_t>() + experts.first;
  shared.window_begin = begin;
  shared.window_end = end;

  GemmParams gate_up = shared;
  GemmParams down = shared;
  for (int i = 0; i < experts.count; ++i) {
    const PackedExpert& expert = ExpertAt(args, experts.first + static_cast<size_t>(i));
    gate_up.weights[i] = expert.gate_up();
    down.weights[i] = expert.down();
  }
  gate_up.x = args.x.raw();
  gate_up.row_index = args.row_index.data<int32_t>();
  gate_up.out = workspace_.inner.data();
  gate_up.n = InterleavedRows(experts.ffn);
  gate_up.k = args.x.dim(1);
  gate_up.out_columns = experts.ffn;
  gate_up.output = GemmOutput::kSwiGlu;
  if (experts.ffn > 0) Multiply(stream, gate_up, "ExpertFfn: gate and up");

  down.x = workspace_.inner.data();
  down.out = args.out.raw();
  down.out_index = args.out_index.data<int32_t>();
  down.n = args.out.dim(1);
  down.k = experts.ffn;
  down.out_columns = down.n;
  down.output = GemmOutput::kAct;
  Multiply(stream, down, "ExpertFfn: down");
}

// Pairs [begin, end) of the only expert, at most library_pairs; false where the library cannot.
bool GemmKernels::Impl::ComputeInLibrary(CudaStream& stream, const ExpertFfnArgs& args,
                                         const PackedExpert& expert, int64_t begin, int64_t end) {
  const int64_t rows = end - begin;
  const int64_t ffn = expert.ffn();
  const int64_t hidden = expert.hidden();
  if (ffn == 0) return false;
  const GemmShape gate_up = ShapeOf(rows, InterleavedRows(ffn), hidden, DType::kFloat32);
  const GemmShape down = ShapeOf(rows, hidden, ffn, act_);
  const GemmAlgorithm* gate_up_algorithm = library_->Find(stream, gate_up);
  const GemmAlgorithm* down_algorithm = library_->Find(stream, down);
  if (gate_up_algorithm == nullptr || down_algorithm == nullptr) return false;

  const LaunchContext& context = stream.context();
  ExpertRowsParams pairs{.num_pairs = args.expert_offsets.data<int32_t>() + 1,
                         .first = begin,
                         .num_rows = rows,
                         .index = args.row_index.data<int32_t>(),
                         .is_bfloat16 = act_ == DType::kBFloat16};
  void* gathered = workspace_.gathered.data();
  auto* sums = static_cast<float*>(workspace_.gate_up.data());
  void* inner = workspace_.inner.data();
  stream.Note(LaunchGatherPairs(context, pairs, args.x.raw(), hidden, gathered),
              "ExpertFfn: gathering rows");
  library_->Multiply(stream, gate_up, *gate_up_algorithm, gathered, expert.gate_up(), sums);
  stream.Note(LaunchSwiGlu(context, sums, rows, ffn, pairs.is_bfloat16, inner),
              "ExpertFfn: SwiGLU");
  // The results may take the rows' place: those have been read.
  library_->Multiply(stream, down, *down_algorithm, inner, expert.down(), gathered);
  pairs.index = args.out_index.data<int32_t>();
  stream.Note(LaunchScatterPairs(context, pairs, gathered, hidden, args.out.raw()),
              "ExpertFfn: scattering rows");
  return true;
}

GemmKernels::GemmKernels(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GemmKernels::~GemmKernels() = default;

absl::StatusOr<std::unique_ptr<GemmKernels>> GemmKernels::Create(CudaMemory& memory,
                                                                 const GemmApi* gemm_api,
                                                                 DType activation,
                                                                 bool deterministic) {
  std::unique_ptr<GemmAlgorithms> library;
  if (gemm_api != nullptr && !deterministic) {
    MOED_ASSIGN_OR_RETURN(library, GemmAlgorithms::Create(*gemm_api));
  }
  return std::unique_ptr<GemmKernels>(
      new GemmKernels(std::make_unique<Impl>(memory, std::move(library), activation)));
}

absl::Status GemmKernels::PrepareWorkspace(const WorkspaceLimits& limits) {
  return impl_->PrepareWorkspace(limits);
}

int64_t GemmKernels::WorkspaceBytes(const WorkspaceLimits& limits) const {
  return impl_->WorkspaceBytes(limits);
}
absl::StatusOr<std::unique_ptr<LinearWeight>> GemmKernels::PackLinear(
    CudaStream& stream, absl::Span<const ConstTensorView> parts) {
  return impl_->PackLinear(stream, parts);
}
absl::StatusOr<std::unique_ptr<ExpertWeight>> GemmKernels::PackExpert(CudaStream& stream,
                                                                      ConstTensorView w1,
                                                                      ConstTensorView w2,
                                                                      ConstTensorView w3) {
  return impl_->PackExpert(stream, w1, w2, w3);
}
void GemmKernels::Linear(CudaStream& stream, const LinearArgs& args) {
  impl_->Linear(stream, args);
}
void GemmKernels::ExpertFfn(CudaStream& stream, const ExpertFfnArgs& args) {
  impl_->ExpertFfn(stream, args);
}

}  // namespace moed::cuda
