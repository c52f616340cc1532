#include "tests/kernels/cuda/gemm_fixture.h"

#include <cstring>
#include <numeric>
#include <utility>

namespace moed::cuda {

std::string GemmCaseName(const testing::TestParamInfo<GemmCase>& info) {
  return std::string(info.param.act == DType::kFloat32 ? "Float32" : "BFloat16") +
         (info.param.deterministic ? "Deterministic" : "Fast");
}

GemmTest::GemmTest()
    : kernels_(MakeKernels(nullptr, GetParam().deterministic)),
      reference_(MakeTestBackend({Kernels::kReference, GetParam().act})),
      reference_stream_(reference_->CreateStream()) {
  EXPECT_TRUE(kernels_->PrepareWorkspace(SmallLimits()).ok());
}

WorkspaceLimits GemmTest::SmallLimits() {
  WorkspaceLimits limits;
  limits.max_rows = 256;
  limits.max_expert_rows = 256;
  limits.max_logit_rows = 64;
  limits.hidden = 544;
  limits.ffn = 544;
  limits.vocab = 128;
  limits.num_experts = 8;
  limits.top_k = 2;
  return limits;
}

std::unique_ptr<GemmKernels> GemmTest::MakeKernels(const GemmApi* gemm_api, bool deterministic) {
  auto kernels = GemmKernels::Create(memory(), gemm_api, act(), deterministic);
  EXPECT_TRUE(kernels.ok()) << kernels.status();
  return *std::move(kernels);
}

std::unique_ptr<LinearWeight> GemmTest::Pack(GemmKernels& kernels, const Tensor& weight) {
  auto packed = kernels.PackLinear(stream(), {weight});
  EXPECT_TRUE(packed.ok()) << packed.status();
  return *std::move(packed);
}

Tensor GemmTest::Linear(GemmKernels& kernels, const Tensor& x, const LinearWeight& weight,
                        Tensor out, bool accumulate) {
  const ConstTensorView x_view = x;
  const TensorView out_view = out.view();
  const Buffer x_device = UploadView(x_view);
  const Buffer out_device = UploadView(out_view);
  kernels.Linear(stream(),
                 {.x = x_device.View(x_view.dtype(), {x_view.dim(0), x_view.dim(1)}),
                  .weight = &weight,
                  .accumulate = accumulate,
                  .out = out_device.View(out_view.dtype(), {out_view.dim(0), out_view.dim(1)})});
  DownloadView(out_device.View(out_view.dtype(), {out_view.dim(0), out_view.dim(1)}), out_view);
  return out;
}

Tensor GemmTest::ReferenceLinear(const Tensor& x, const Tensor& weight, Tensor out,
                                 bool accumulate) {
  const auto packed = reference_->PackLinear({weight});
  EXPECT_TRUE(packed.ok()) << packed.status();
  reference_->Linear(
      *reference_stream_,
      {.x = x, .weight = packed->get(), .accumulate = accumulate, .out = out.view()});
  return out;
}

Tensor TakeRows(const Tensor& x, const std::vector<int32_t>& rows) {
  Tensor taken(static_cast<ConstTensorView>(x).dtype(),
               {static_cast<int64_t>(rows.size()), x.dim(1)});
  int64_t target = 0;
  for (const int32_t row : rows) {
    for (int64_t i = 0; i < x.dim(1); ++i) {
      taken.set(target * x.dim(1) + i, x.at(row * x.dim(1) + i));
    }
    ++target;
  }
  return taken;
}

std::vector<int32_t> Range(int32_t count) {
  std::vector<int32_t> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), 0);
  return values;
}

}  // namespace moed::cuda
