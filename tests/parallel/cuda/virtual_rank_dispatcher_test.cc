// A mixture-of-experts layer on the device: one rank's plain loop against any number of virtual
// ranks, bit for bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "kernels/cuda/cuda_backend.h"
#include "parallel/token_dispatcher.h"
#include "tests/cuda_host/host_gemm.h"
#include "tests/parallel/cuda/rank_device.h"
#include "tests/parallel/moe_layer.h"
#include "tests/support/forwarding_backend.h"

namespace moed::cuda {
namespace {

constexpr uint64_t kSeed = 7;
constexpr int64_t kMaxRows = 5;
constexpr int64_t kTopK = 2;
constexpr int kNumExperts = 8;

// Fills every kExchange allocation with ones: NaN in float32 and bfloat16, -1 in int32. What a
// dispatch reads before it was written shows.
class PoisoningDevice final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  absl::StatusOr<Buffer> Allocate(MemoryKind kind, int64_t bytes) override {
    absl::StatusOr<Buffer> buffer = ForwardingBackend::Allocate(kind, bytes);
    if (kind == MemoryKind::kExchange && buffer.ok() && bytes > 0) {
      const CudaApi& api = cuda_host::HostCudaApi();
      api.set_bytes(buffer->data(), 0xFF, static_cast<size_t>(bytes), nullptr);
      api.synchronize_stream(nullptr);
    }
    return buffer;
  }
};

std::unique_ptr<Backend> MakeDeviceBackend(DType act) {
  CudaBackendOptions options;
  options.api = &cuda_host::HostCudaApi();
  options.gemm_api = &cuda_host::HostGemmApi();
  options.activation_dtype = act;
  options.deterministic = true;
  auto backend = std::make_unique<PoisoningDevice>(MakeCudaBackend(options).value());
  WorkspaceLimits limits;
  limits.max_rows = 16;
  limits.max_expert_rows = 256;
  limits.max_logit_rows = 1;
  limits.max_context_tokens = 16;
  limits.hidden = kHidden;
  limits.ffn = kFfn;
  limits.vocab = 8;
  limits.num_heads = 1;
  limits.num_kv_heads = 1;
  limits.head_dim = 8;
  limits.num_experts = kNumExperts;
  limits.top_k = kTopK;
  const absl::Status status = backend->PrepareWorkspace(limits);
  MOED_CHECK(status.ok(), "no workspace");
  return backend;
}

// A host tensor's copy in device memory.
class OnDevice {
 public:
  OnDevice(Backend& backend, Stream& stream, ConstTensorView host)
      : buffer_(backend.Allocate(MemoryKind::kActivations, host.bytes()).value()),
        view_(buffer_.data(), host.dtype(), {host.dim(0), host.rank() == 2 ? host.dim(1) : 1}) {
    backend.CopyToDevice(stream, host, view_);
    MOED_CHECK(backend.Synchronize(stream).ok(), "a copy fails");
  }
  OnDevice(Backend& backend, Stream& stream, const std::vector<int32_t>& values)
      : OnDevice(
            backend, stream,
            ConstTensorView(values.data(), DType::kInt32, {static_cast<int64_t>(values.size())})) {}

  TensorView view() const { return view_; }
  TensorView Flat(int64_t begin, int64_t count) const {
    const TensorView rows = view_.Rows(begin, count);
    return TensorView(rows.raw(), rows.dtype(), {count});
  }

 private:
  Buffer buffer_;
  TensorView view_;
};

// How many rows each rank has, and whom they choose.
enum class Load { kUneven, kFirstRankOnly, kNobody, kFull };

int64_t NumRows(Load load, int rank) {
  switch (load) {
    case Load::kUneven:
      return (rank * 7 + 1) % 4;
    case Load::kFirstRankOnly:
      return rank == 0 ? kMaxRows : 0;
    case Load::kNobody:
      return 0;
    case Load::kFull:
      return kMaxRows;
  }
  return 0;
}

RankRows MakeRows(Load load, bool one_expert, int rank, DType act) {
  std::mt19937_64 random(kSeed + static_cast<uint64_t>(load) * 100 + static_cast<uint64_t>(rank));
  std::normal_distribution<float> normal;
  const int64_t num_tokens = NumRows(load, rank);
  RankRows input{ActMatrix(act, num_tokens, kHidden), {}, {}, num_tokens, kTopK};
  for (int64_t row = 0; row < num_tokens; ++row) {
    const auto first = static_cast<int32_t>(random() % kNumExperts);
    input.ids.push_back(one_expert ? 3 : first);
    input.ids.push_back(one_expert || random() % 4 == 0 ? -1 : (first + 5) % kNumExperts);
    for (int64_t choice = 0; choice < kTopK; ++choice) {
      input.weights.push_back(std::abs(normal(random)));
    }
    for (int64_t column = 0; column < kHidden; ++column) {
      input.rows.Set(row, column, normal(random));
    }
  }
  return input;
}

// [num_tokens, kHidden] float32 on the device, zero; and what becomes of it.
class Residual {
 public:
  Residual(Backend& backend, int64_t num_tokens)
      : buffer_(backend.Allocate(MemoryKind::kActivations, num_tokens * kHidden * 4).value()),
        view_(buffer_.data(), DType::kFloat32, {num_tokens, kHidden}) {}
  TensorView view() const { return view_; }
  std::vector<uint32_t> Bits(Backend& backend, Stream& stream) const {
    std::vector<float> values(static_cast<size_t>(view_.num_elements()));
    backend.CopyToHost(stream, view_,
                       TensorView(values.data(), DType::kFloat32, {view_.dim(0), kHidden}));
    EXPECT_TRUE(backend.Synchronize(stream).ok());
    std::vector<uint32_t> bits;
    for (const float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
    return bits;
  }

 private:
  Buffer buffer_;
  TensorView view_;
};

// What a rank's input is on the device.
struct DeviceRank {
  DeviceRank(Backend& backend, Stream& stream, RankRows& input)
      : rows(backend, stream, input.rows.view()),
        ids(backend, stream, input.ids_view()),
        weights(backend, stream, input.weights_view()) {}
  OnDevice rows;
  OnDevice ids;
  OnDevice weights;
};

// The layer on one rank, one row and one choice at a time.
std::vector<uint32_t> PlainBits(Backend& backend, Stream& stream, const Experts& experts,
                                const RankRows& input, const DeviceRank& device) {
  const int64_t num_pairs = input.num_tokens * kTopK;
  std::vector<int32_t> rows(static_cast<size_t>(num_pairs));
  std::vector<int32_t> places(rows.size());
  std::vector<int32_t> index(rows.size(), -1);
  for (size_t pair = 0; pair < rows.size(); ++pair) {
    rows[pair] = static_cast<int32_t>(pair) / static_cast<int32_t>(kTopK);
    places[pair] = static_cast<int32_t>(pair);
    if (input.ids[pair] >= 0) index[pair] = static_cast<int32_t>(pair);
  }
  const OnDevice row_index(backend, stream, rows);
  const OnDevice out_index(backend, stream, places);
  const OnDevice one_pair(backend, stream, {0, 1});
  const OnDevice contribution_index(
      backend, stream, ConstTensorView(index.data(), DType::kInt32, {input.num_tokens, kTopK}));
  const DType act = backend.activation_dtype();
  const Buffer contributions =
      backend.Allocate(MemoryKind::kActivations, num_pairs * kHidden * DTypeBytes(act)).value();
  const TensorView out = contributions.View(act, {num_pairs, kHidden});
  for (int64_t pair = 0; pair < num_pairs; ++pair) {
    const int32_t expert = input.ids[static_cast<size_t>(pair)];
    if (expert < 0) continue;
    const ExpertWeight* weight = experts.weights[static_cast<size_t>(expert)].get();
    backend.ExpertFfn(stream, {.x = device.rows.view(),
                               .experts = absl::MakeConstSpan(&weight, 1),
                               .expert_offsets = one_pair.Flat(0, 2),
                               .row_index = row_index.Flat(pair, 1),
                               .out_index = out_index.Flat(pair, 1),
                               .out = out});
  }
  const Residual residual(backend, input.num_tokens);
  backend.Combine(stream, {.contributions = out,
                           .contribution_index = contribution_index.view(),
                           .topk_weights = device.weights.view(),
                           .residual = residual.view()});
  return residual.Bits(backend, stream);
}

absl::Status RunSteps(Communicator& communicator, DType act, const Experts& experts) {
  const int rank = communicator.rank();
  const int num_ranks = communicator.num_ranks();
  const ExpertPlacement placement = ExpertPlacement::Even(1, kNumExperts, num_ranks);
  const std::unique_ptr<Backend> backend = MakeDeviceBackend(act);
  const std::unique_ptr<Stream> stream = backend->CreateStream();
  MOED_ASSIGN_OR_RETURN(const std::unique_ptr<TokenDispatcher> dispatcher,
                        TokenDispatcher::Create(*backend, communicator, placement,
                                                DispatcherLimits{.max_rows = kMaxRows,
                                                                 .max_gather_rows = kMaxRows,
                                                                 .hidden = kHidden,
                                                                 .top_k = kTopK,
                                                                 .max_in_flight = 1}));
  std::vector<const ExpertWeight*> local;
  for (const int32_t expert : placement.ExpertsOn(rank, 0)) {
    local.push_back(experts.weights[static_cast<size_t>(expert)].get());
  }
  uint64_t number = 0;
  for (const Load load : {Load::kUneven, Load::kFirstRankOnly, Load::kNobody, Load::kFull}) {
    for (const bool one_expert : {false, true}) {
      RankRows input = MakeRows(load, one_expert, rank, act);
      const DeviceRank device(*backend, *stream, input);
      const std::vector<uint32_t> expected = PlainBits(*backend, *stream, experts, input, device);
      for (const auto strategy : {ExchangeStrategy::kExact, ExchangeStrategy::kGather}) {
        const ExchangePlan plan{strategy, kMaxRows};
        MOED_ASSIGN_OR_RETURN(DispatchHandle handle,
                              dispatcher->Dispatch(*stream, ++number, 0, plan, device.rows.view(),
                                                   device.ids.view()));
        backend->ExpertFfn(*stream, {.x = handle.rows(),
                                     .experts = local,
                                     .expert_offsets = handle.expert_offsets(),
                                     .row_index = handle.row_index(),
                                     .out_index = handle.out_index(),
                                     .out = handle.expert_output()});
        const Residual residual(*backend, input.num_tokens);
        MOED_RETURN_IF_ERROR(dispatcher->Combine(*stream, std::move(handle), device.weights.view(),
                                                 residual.view()));
        EXPECT_EQ(residual.Bits(*backend, *stream), expected)
            << ExchangeStrategyName(strategy) << ", step " << number << ", rank " << rank << " of "
            << num_ranks;
      }
    }
  }
  return absl::OkStatus();
}

using Shape = std::tuple<int, DType>;  // ranks, activations

class VirtualRankDispatcher : public ::testing::TestWithParam<Shape> {};

TEST_P(VirtualRankDispatcher, GivesTheBitsOfOneRanksPlainLoop) {
  const auto [num_ranks, act] = GetParam();
  const std::unique_ptr<Backend> packer = MakeDeviceBackend(act);
  const Experts experts = Experts::Make(*packer, kNumExperts, kSeed);
  const auto group = MakeVirtualGroup(num_ranks);
  const auto results = RunRanks(*group, [&, act = act](Communicator& communicator) {
    return RunSteps(communicator, act, experts);
  });
  for (const absl::Status& status : results) EXPECT_TRUE(status.ok()) << status;
}

INSTANTIATE_TEST_SUITE_P(Shapes, VirtualRankDispatcher,
                         ::testing::Combine(::testing::Values(1, 3, 8),
                                            ::testing::Values(DType::kFloat32, DType::kBFloat16)),
                         [](const ::testing::TestParamInfo<Shape>& shape) {
                           return absl::StrCat(std::get<0>(shape.param), "ranks_",
                                               DTypeName(std::get<1>(shape.param)));
                         });

}  // namespace
}  // namespace moed::cuda
