#include "parallel/token_dispatcher.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "parallel/dispatch_buffers.h"

namespace moed {
namespace {

// Allocates a device table and enqueues its upload; `values` must stay until the stream has run.
absl::StatusOr<Buffer> Upload(Backend& backend, Stream& stream,
                              const std::vector<int32_t>& values) {
  const auto length = static_cast<int64_t>(values.size());
  MOED_ASSIGN_OR_RETURN(
      Buffer table, backend.Allocate(MemoryKind::kExchange, length * DTypeBytes(DType::kInt32)));
  backend.CopyToDevice(stream, ConstTensorView(values.data(), DType::kInt32, {length}),
                       table.View(DType::kInt32, {length}));
  return table;
}

ConstTensorView TableRow(const Buffer& table, int row, int64_t width) {
  return ConstTensorView(static_cast<const int32_t*>(table.data()) + row * width, DType::kInt32,
                         {width});
}

}  // namespace

absl::StatusOr<std::unique_ptr<TokenDispatcher>> TokenDispatcher::Create(
    Backend& backend, Communicator& communicator, const ExpertPlacement& placement,
    const DispatcherLimits& limits) {
  MOED_CHECK(communicator.num_ranks() == placement.num_ranks(),
             "the placement is made for another number of ranks");
  std::unique_ptr<TokenDispatcher> dispatcher(
      new TokenDispatcher(backend, communicator, placement, limits));
  MOED_RETURN_IF_ERROR(dispatcher->AllocateBuffers());
  MOED_RETURN_IF_ERROR(dispatcher->UploadTables());
  return dispatcher;
}

TokenDispatcher::TokenDispatcher(Backend& backend, Communicator& communicator,
                                 const ExpertPlacement& placement, const DispatcherLimits& limits)
    : backend_(backend),
      communicator_(communicator),
      placement_(placement),
      limits_(limits),
      slots_per_row_(SlotsPerRow(placement, limits)) {}

TokenDispatcher::~TokenDispatcher() {
  for (const auto& buffers : buffers_) {
    MOED_CHECK(!buffers->in_use, "a dispatch handle outlives its dispatcher");
  }
}

absl::Status TokenDispatcher::AllocateBuffers() {
  MOED_ASSIGN_OR_RETURN(const std::vector<DispatchBufferSize> sizes,
                        DispatchBufferSizes(placement_, limits_, backend_.activation_dtype()));
  const auto num_ranks = static_cast<size_t>(placement_.num_ranks());
  for (int i = 0; i < limits_.max_in_flight; ++i) {
    auto buffers = std::make_unique<DispatchBuffers>();
    for (const DispatchBufferSize& size : sizes) {
      MOED_ASSIGN_OR_RETURN((*buffers).*size.buffer,
                            backend_.Allocate(MemoryKind::kExchange, size.bytes));
    }
    buffers->planned_counts.resize(2 * num_ranks);
    buffers->own_counts.resize(2 * num_ranks);
    buffers->peer_counts.resize(2 * num_ranks);
    buffers->rows_to.resize(num_ranks);
    buffers->rows_from.resize(num_ranks);
    buffers->replies_to.resize(num_ranks);
    buffers->replies_from.resize(num_ranks);
    buffers_.push_back(std::move(buffers));
  }
  return absl::OkStatus();
}

absl::Status TokenDispatcher::UploadTables() {
  std::vector<int32_t> rank_of_expert;
  std::vector<int32_t> local_expert_of;
  for (int layer = 0; layer < placement_.num_layers(); ++layer) {
    const auto ranks = placement_.RankOfExpert(layer);
    rank_of_expert.insert(rank_of_expert.end(), ranks.begin(), ranks.end());
    const auto local_ids = placement_.LocalExpertOf(communicator_.rank(), layer);
    local_expert_of.insert(local_expert_of.end(), local_ids.begin(), local_ids.end());
  }
  const std::vector<int32_t> zeros(static_cast<size_t>(ConstantTableLength(placement_, limits_)),
                                   0);
  std::vector<int32_t> first_rows(zeros.size());
  std::iota(first_rows.begin(), first_rows.end(), 0);
  const std::vector<int32_t> padding_ids(static_cast<size_t>(limits_.top_k), -1);

  const std::unique_ptr<Stream> stream = backend_.CreateStream();
  MOED_ASSIGN_OR_RETURN(rank_of_expert_, Upload(backend_, *stream, rank_of_expert));
  MOED_ASSIGN_OR_RETURN(local_expert_of_, Upload(backend_, *stream, local_expert_of));
  MOED_ASSIGN_OR_RETURN(zeros_, Upload(backend_, *stream, zeros));
  MOED_ASSIGN_OR_RETURN(first_rows_, Upload(backend_, *stream, first_rows));
  MOED_ASSIGN_OR_RETURN(padding_ids_, Upload(backend_, *stream, padding_ids));
  return backend_.Synchronize(*stream);
}

absl::StatusOr<DispatchHandle> TokenDispatcher::Dispatch(Stream& stream, uint64_t step, int layer,
                                                         const ExchangePlan& plan,
                                                         ConstTensorView rows,
                                                         ConstTensorView topk_ids) {
  MOED_CHECK(rows.rank() == 2 && rows.dim(1) == limits_.hidden, "rows are not [*, hidden]");
  MOED_CHECK(topk_ids.rank() == 2 && topk_ids.dim(1) == limits_.top_k, "ids are not [*, top_k]");
  MOED_CHECK(rows.dim(0) == topk_ids.dim(0), "rows and their choices differ in number");
  MOED_CHECK(rows.dim(0) <= limits_.max_rows, "a step has more rows than max_rows");
  const auto unused = std::find_if(buffers_.begin(), buffers_.end(),
                                   [](const auto& buffers) { return !buffers->in_use; });
  MOED_CHECK(unused != buffers_.end(), "more dispatches in flight than max_in_flight");

  DispatchBuffers& buffers = **unused;
  DispatchHandle handle(&buffers);
  buffers.step = step;
  buffers.layer = layer;
  buffers.strategy = plan.strategy;
  buffers.home_rows = rows;
  buffers.home_ids = topk_ids;
  buffers.contribution_index_view =
      buffers.contribution_index.View(DType::kInt32, {rows.dim(0), limits_.top_k});
  if (placement_.num_ranks() == 1) {
    DispatchLocal(stream, buffers);
  } else if (plan.strategy == ExchangeStrategy::kExact) {
    MOED_RETURN_IF_ERROR(DispatchExact(stream, buffers));
  } else {
    MOED_RETURN_IF_ERROR(DispatchGather(stream, buffers, plan.padded_rows));
  }
  return handle;
}

absl::Status TokenDispatcher::Combine(Stream& stream, DispatchHandle handle,
                                      ConstTensorView topk_weights, TensorView residual) {
  MOED_CHECK(handle.buffers_ != nullptr, "a handle is combined twice");
  DispatchBuffers& buffers = *handle.buffers_;
  ConstTensorView contributions = buffers.expert_output_view;
  if (placement_.num_ranks() > 1) {
    const bool is_exact = buffers.strategy == ExchangeStrategy::kExact;
    MOED_ASSIGN_OR_RETURN(contributions, is_exact ? BringHomeExact(stream, buffers)
                                                  : BringHomeGather(stream, buffers));
  }
  backend_.Combine(stream, CombineArgs{.contributions = contributions,
                                       .contribution_index = buffers.contribution_index_view,
                                       .topk_weights = topk_weights,
                                       .residual = residual});
  return absl::OkStatus();
}

void TokenDispatcher::DispatchLocal(Stream& stream, DispatchBuffers& buffers) {
  buffers.arrived_rows_view = buffers.home_rows;
  buffers.arrived_ids_view = buffers.home_ids;
  GroupArrivedRows(stream, buffers, slots_per_row_);
  IndexSlots(stream, buffers, buffers.home_rows.dim(0));
}

void TokenDispatcher::GroupArrivedRows(Stream& stream, DispatchBuffers& buffers,
                                       int64_t slots_per_row) {
  const int64_t num_arrived = buffers.arrived_ids_view.dim(0);
  const auto num_local =
      static_cast<int64_t>(placement_.ExpertsOn(communicator_.rank(), buffers.layer).size());
  const int64_t max_pairs = num_arrived * std::min(limits_.top_k, num_local);
  buffers.row_index_view = buffers.row_index.View(DType::kInt32, {max_pairs});
  buffers.out_index_view = buffers.out_index.View(DType::kInt32, {max_pairs});
  if (max_pairs == 0) {
    buffers.expert_offsets_view = zeros_.View(DType::kInt32, {num_local + 1});
    return;
  }
  const TensorView offsets = buffers.expert_offsets.View(DType::kInt32, {num_local + 1});
  buffers.expert_offsets_view = offsets;
  backend_.GroupByExpert(
      stream, GroupByExpertArgs{.topk_ids = buffers.arrived_ids_view,
                                .local_expert_of = TableRow(local_expert_of_, buffers.layer,
                                                            placement_.num_experts()),
                                .slots_per_row = slots_per_row,
                                .expert_offsets = offsets,
                                .row_index = buffers.row_index.View(DType::kInt32, {max_pairs}),
                                .out_index = buffers.out_index.View(DType::kInt32, {max_pairs})});
}

void TokenDispatcher::IndexSlots(Stream& stream, DispatchBuffers& buffers, int64_t padded_rows) {
  const int64_t num_tokens = buffers.home_ids.dim(0);
  const int64_t num_slots = placement_.num_ranks() * padded_rows * slots_per_row_;
  buffers.expert_output_view =
      buffers.expert_output.View(backend_.activation_dtype(), {num_slots, limits_.hidden});
  backend_.IndexStaticSlots(
      stream, IndexStaticSlotsArgs{.topk_ids = buffers.home_ids,
                                   .rank_of_expert = RankOfExpert(buffers.layer),
                                   .padded_rows = padded_rows,
                                   .slots_per_row = slots_per_row_,
                                   .contribution_index = buffers.contribution_index.View(
                                       DType::kInt32, {num_tokens, limits_.top_k})});
}

ConstTensorView TokenDispatcher::RankOfExpert(int layer) const {
  return TableRow(rank_of_expert_, layer, placement_.num_experts());
}

}  // namespace moed
