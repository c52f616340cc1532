// Route against the CPU's reference, and against itself in other batches.
#include <cmath>

#include "absl/status/status.h"
#include "kernels/cuda/route.h"
#include "kernels/cuda/routing_ops.h"
#include "tests/cuda_host/launch_log.h"
#include "tests/kernels/cuda/reference_fixture.h"

namespace moed::cuda {
namespace {

struct Routing {
  Tensor ids;
  Tensor weights;
};

class CudaRouteTest : public ReferenceActTest {
 protected:
  static Routing Unwritten(int64_t num_rows, int64_t top_k) {
    const auto size = static_cast<size_t>(num_rows * top_k);
    return {Tensor::Ints({num_rows, top_k}, std::vector<int32_t>(size, -7)),
            Tensor::Of(DType::kFloat32, {num_rows, top_k}, std::vector<float>(size, -7.0F))};
  }

  static RouteArgs Args(const ConstTensorView& x, const ConstTensorView& weight,
                        const ConstTensorView& num_choices, const TensorView& ids,
                        const TensorView& weights) {
    RouteArgs args;
    args.x = x;
    args.weight = weight;
    args.num_choices = num_choices;
    args.topk_ids = ids;
    args.topk_weights = weights;
    return args;
  }

  Routing OnDevice(const ConstTensorView& x, const ConstTensorView& weight, int64_t top_k,
                   const ConstTensorView& num_choices = {}) {
    const Routing old = Unwritten(x.dim(0), top_k);
    const TensorView ids = Put(old.ids);
    const TensorView weights = Put(old.weights);
    Route(stream(), Args(x, weight, num_choices, ids, weights));
    return {Get(ids, old.ids), Get(weights, old.weights)};
  }

  Routing OnCpu(const Tensor& x, const Tensor& weight, int64_t top_k,
                const ConstTensorView& num_choices = {}) {
    WorkspaceLimits limits = TestLimits();
    limits.num_experts = weight.dim(0);
    EXPECT_TRUE(cpu(act()).PrepareWorkspace(limits).ok());
    Routing routing = Unwritten(x.dim(0), top_k);
    cpu(act()).Route(cpu_stream(),
                     Args(x, weight, num_choices, routing.ids.view(), routing.weights.view()));
    return routing;
  }
};
INSTANTIATE_TEST_SUITE_P(Act, CudaRouteTest, testing::Values(DType::kFloat32, DType::kBFloat16),
                         ActName);

struct Size {
  int64_t num_rows;
  int64_t num_experts;
  int64_t top_k;
  int64_t hidden;
};

// More rows than twice the emulated multiprocessors (4) go eight to a block.
TEST_P(CudaRouteTest, MatchesTheReference) {
  for (const Size& size :
       {Size{1, 1, 1, 5}, Size{3, 8, 2, 64}, Size{21, 8, 2, 72}, Size{4, 3, 3, 33},
        Size{13, 20, 5, 1030}, Size{2, 256, 8, 64}, Size{9, 300, 300, 12}, Size{8, 5, 2, 1028}}) {
    const Tensor x = Tensor::Random(act(), {size.num_rows, size.hidden}, 1);
    const Tensor weight = Tensor::Random(DType::kFloat32, {size.num_experts, size.hidden}, 2, 0.2F);
    std::vector<int32_t> k_of_row;
    for (int64_t t = 0; t < size.num_rows; ++t) {
      k_of_row.push_back(static_cast<int32_t>(t * 7 % size.top_k) + 1);
    }
    const Tensor num_choices = Tensor::Ints({size.num_rows}, k_of_row);
    const Routing want = OnCpu(x, weight, size.top_k);
    const Routing want_mixed = OnCpu(x, weight, size.top_k, num_choices);
    const TensorView device_x = Put(x);
    const TensorView device_weight = Put(weight);
    UnderEachBlockOrder([&] {
      const std::string what = std::to_string(size.num_rows) + " rows, top " +
                               std::to_string(size.top_k) + " of " +
                               std::to_string(size.num_experts);
      const Routing got = OnDevice(device_x, device_weight, size.top_k);
      EXPECT_EQ(got.ids.ints(), want.ids.ints()) << what;
      // Logits are summed in another order: half a unit in the last place for each term at most.
      const double relative = 1e-5 + 6e-8 * static_cast<double>(size.hidden);
      ExpectNear(got.weights, want.weights, relative, 1e-7, what);
      const Routing mixed = OnDevice(device_x, device_weight, size.top_k, Put(num_choices));
      EXPECT_EQ(mixed.ids.ints(), want_mixed.ids.ints()) << what;
      ExpectNear(mixed.weights, want_mixed.weights, relative, 1e-7, what + ", mixed");
    });
  }
}

TEST_P(CudaRouteTest, TiesGoToTheLowerIdAndExtremesAsOnTheCpu) {
  const Tensor x = Tensor::Of(act(), {7, 1}, {0, -0.0F, 1e30F, -1e30F, INFINITY, -INFINITY, NAN});
  const Tensor weight = Tensor::Of(DType::kFloat32, {5, 1}, {1e5F, -2e5F, 3, 3, 1e5F});
  const std::vector<int32_t> twice = {0, 1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 1, 0};
  Tensor many(act(), {14, 1});
  for (size_t t = 0; t < twice.size(); ++t) many.set(static_cast<int64_t>(t), x.at(twice[t]));
  for (const int64_t top_k : {1, 2, 5}) {
    for (const Tensor& rows : {x, many}) {
      const Routing want = OnCpu(rows, weight, top_k);
      const Routing got = OnDevice(Put(rows), Put(weight), top_k);
      EXPECT_EQ(got.ids.ints(), want.ids.ints()) << "top " << top_k;
      ExpectNear(got.weights, want.weights, 1e-6, 0, "top " + std::to_string(top_k));
    }
  }
}

// Eight rows share a block in the one, each has its own in the other.
TEST_P(CudaRouteTest, RowsHaveTheSameBitsInAnyBatch) {
  for (const int64_t hidden : {77, 516}) {
    const Tensor x = Tensor::Random(act(), {27, hidden}, 5);
    const TensorView weight = Put(Tensor::Random(DType::kFloat32, {11, hidden}, 6));
    const TensorView device_x = Put(x);
    const Routing all = OnDevice(device_x, weight, 4);
    for (const int64_t begin : {0, 8, 15, 26}) {
      const Routing one = OnDevice(device_x.Rows(begin, 1), weight, 4);
      EXPECT_EQ(one.ids.bytes(), all.ids.bytes(begin, 1)) << "row " << begin;
      EXPECT_EQ(one.weights.bytes(), all.weights.bytes(begin, 1)) << "row " << begin;
    }
    const Routing tail = OnDevice(device_x.Rows(3, 24), weight, 4);
    EXPECT_EQ(tail.weights.bytes(), all.weights.bytes(3, 24));
  }
}

TEST_P(CudaRouteTest, NoRowsLaunchNothing) {
  const TensorView x = Put(Tensor(act(), {0, 8}));
  const TensorView weight = Put(Tensor::Random(DType::kFloat32, {3, 8}, 1));
  const TensorView ids = Put(Tensor(DType::kInt32, {0, 2}));
  const TensorView weights = Put(Tensor(DType::kFloat32, {0, 2}));
  Run();
  const auto before = cuda_host::LaunchCounts();
  Route(stream(), Args(x, weight, {}, ids, weights));
  Run();
  EXPECT_EQ(cuda_host::LaunchCounts(), before);
}

TEST_P(CudaRouteTest, MoreExpertsThanTheKernelTakesAreRefused) {
  const int64_t num_experts = kMaxRoutedExperts + 1;
  const TensorView x = Put(Tensor(act(), {1, 1}));
  const TensorView weight = Put(Tensor(DType::kFloat32, {num_experts, 1}));
  const TensorView ids = Put(Tensor(DType::kInt32, {1, 1}));
  const TensorView weights = Put(Tensor(DType::kFloat32, {1, 1}));
  Route(stream(), Args(x, weight, {}, ids, weights));
  const absl::Status status = stream().Synchronize();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(status.message().find(std::to_string(num_experts) + " experts"),
            absl::string_view::npos)
      << status;
}

TEST_P(CudaRouteTest, AsManyExpertsAsTheKernelTakes) {
  Tensor weight = Tensor::Random(DType::kFloat32, {kMaxRoutedExperts, 1}, 8);
  const Tensor x = Tensor::Of(act(), {1, 1}, {1});
  const Routing want = OnCpu(x, weight, 2);
  const Routing got = OnDevice(Put(x), Put(weight), 2);
  EXPECT_EQ(got.ids.ints(), want.ids.ints());
}

}  // namespace
}  // namespace moed::cuda
