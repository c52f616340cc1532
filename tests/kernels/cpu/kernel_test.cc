#include "tests/kernels/cpu/kernel_test.h"

#include <cmath>
#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/fast/fast_backend.h"

namespace moed {
namespace {

int64_t Count(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;
  return count;
}

template <typename View, typename Data>
View MakeView(Data* data, DType dtype, const std::vector<int64_t>& shape) {
  switch (shape.size()) {
    case 1:
      return View(data, dtype, {shape[0]});
    case 2:
      return View(data, dtype, {shape[0], shape[1]});
    case 3:
      return View(data, dtype, {shape[0], shape[1], shape[2]});
    case 4:
      return View(data, dtype, {shape[0], shape[1], shape[2], shape[3]});
    default:
      return View();
  }
}

}  // namespace

Tensor::Tensor(DType dtype, std::vector<int64_t> shape)
    : dtype_(dtype),
      shape_(std::move(shape)),
      memory_(static_cast<size_t>(Count(shape_) * DTypeBytes(dtype))) {}

Tensor Tensor::Random(DType dtype, std::vector<int64_t> shape, uint32_t seed, float scale) {
  Tensor tensor(dtype, std::move(shape));
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < tensor.size(); ++i) tensor.set(i, normal(engine) * scale);
  return tensor;
}

Tensor Tensor::Of(DType dtype, std::vector<int64_t> shape, const std::vector<float>& values) {
  Tensor tensor(dtype, std::move(shape));
  EXPECT_EQ(tensor.size(), static_cast<int64_t>(values.size()));
  for (int64_t i = 0; i < tensor.size(); ++i) tensor.set(i, values[static_cast<size_t>(i)]);
  return tensor;
}

Tensor Tensor::Ints(std::vector<int64_t> shape, const std::vector<int32_t>& values) {
  Tensor tensor(DType::kInt32, std::move(shape));
  EXPECT_EQ(tensor.size(), static_cast<int64_t>(values.size()));
  if (!values.empty()) {
    std::memcpy(tensor.memory_.data(), values.data(), values.size() * sizeof(int32_t));
  }
  return tensor;
}

TensorView Tensor::view() { return MakeView<TensorView>(memory_.data(), dtype_, shape_); }
Tensor::operator ConstTensorView() const {
  return MakeView<ConstTensorView>(memory_.data(), dtype_, shape_);
}

int64_t Tensor::size() const { return Count(shape_); }

float Tensor::at(int64_t i) const {
  const ConstTensorView all = *this;
  switch (dtype_) {
    case DType::kFloat32:
      return all.data<float>()[i];
    case DType::kBFloat16:
      return ToFloat(all.data<BFloat16>()[i]);
    default:
      return ToFloat(all.data<Float16>()[i]);
  }
}

void Tensor::set(int64_t i, float value) {
  if (dtype_ == DType::kFloat32) {
    view().data<float>()[i] = value;
  } else {
    view().data<BFloat16>()[i] = ToBFloat16(value);
  }
}

int32_t Tensor::int_at(int64_t i) const {
  return static_cast<ConstTensorView>(*this).data<int32_t>()[i];
}

std::vector<float> Tensor::floats() const {
  std::vector<float> values(static_cast<size_t>(size()));
  for (int64_t i = 0; i < size(); ++i) values[static_cast<size_t>(i)] = at(i);
  return values;
}

std::vector<int32_t> Tensor::ints() const {
  std::vector<int32_t> values(static_cast<size_t>(size()));
  for (int64_t i = 0; i < size(); ++i) values[static_cast<size_t>(i)] = int_at(i);
  return values;
}

std::string Tensor::bytes(int64_t begin, int64_t count) const {
  const size_t row = dim(0) == 0 ? 0 : memory_.size() / static_cast<size_t>(dim(0));
  return std::string(
      reinterpret_cast<const char*>(memory_.data()) + static_cast<size_t>(begin) * row,
      static_cast<size_t>(count) * row);
}

std::string KernelCaseName(const testing::TestParamInfo<KernelCase>& info) {
  static const char* const kNames[] = {"Reference", "Baseline", "Portable", "Avx512Bf16"};
  return std::string(kNames[static_cast<int>(info.param.kernels)]) +
         (info.param.act == DType::kFloat32 ? "Float32" : "BFloat16");
}

std::vector<KernelCase> FastKernelCases() {
  std::vector<KernelCase> cases;
  for (const Kernels kernels : {Kernels::kBaseline, Kernels::kPortable, Kernels::kAvx512Bf16}) {
    for (const DType act : {DType::kFloat32, DType::kBFloat16}) cases.push_back({kernels, act});
  }
  return cases;
}

std::vector<KernelCase> AllKernelCases() {
  std::vector<KernelCase> cases = FastKernelCases();
  cases.push_back({Kernels::kReference, DType::kFloat32});
  cases.push_back({Kernels::kReference, DType::kBFloat16});
  return cases;
}

WorkspaceLimits TestLimits() {
  WorkspaceLimits limits;
  limits.max_rows = 700;
  limits.max_expert_rows = 700;
  limits.max_logit_rows = 64;
  limits.max_context_tokens = 1024;
  limits.hidden = 320;
  limits.ffn = 320;
  limits.vocab = 40000;
  limits.num_heads = 8;
  limits.num_kv_heads = 1;
  limits.head_dim = 128;
  limits.num_experts = 16;
  limits.top_k = 4;
  return limits;
}

std::unique_ptr<Backend> MakeTestBackend(const KernelCase& kernel_case, int num_threads) {
  auto pool = std::make_shared<ThreadPool>(num_threads);
  std::unique_ptr<Backend> backend;
  if (kernel_case.kernels == Kernels::kBaseline) {
    backend = std::make_unique<FastBackend>(BaselineKernels(), kernel_case.act, pool);
  } else {
    CpuIsa isa = CpuIsa::kReference;
    if (kernel_case.kernels == Kernels::kPortable) isa = CpuIsa::kPortable;
    if (kernel_case.kernels == Kernels::kAvx512Bf16) isa = CpuIsa::kAvx512Bf16;
    if (!CpuSupports(isa)) return nullptr;
    auto made = MakeCpuBackend({isa, kernel_case.act, pool});
    EXPECT_TRUE(made.ok()) << made.status();
    backend = *std::move(made);
  }
  const absl::Status prepared = backend->PrepareWorkspace(TestLimits());
  EXPECT_TRUE(prepared.ok()) << prepared;
  return backend;
}

void KernelTest::SetUp() {
  backend_ = MakeTestBackend(GetParam());
  if (backend_ == nullptr) GTEST_SKIP() << "this CPU lacks the instruction set";
  stream_ = backend_->CreateStream();
}

double StoreEpsilon(DType dtype) { return dtype == DType::kFloat32 ? 0x1p-24 : 0x1p-8; }

void ExpectClose(const std::vector<float>& got, const std::vector<double>& want,
                 const std::vector<double>& allowed, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  ASSERT_EQ(got.size(), allowed.size()) << what;
  double worst = 0;
  size_t at = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double difference = std::abs(static_cast<double>(got[i]) - want[i]);
    const bool same = static_cast<double>(got[i]) == want[i];  // infinities too
    const double ratio = same ? 0 : std::isnan(difference) ? INFINITY : difference / allowed[i];
    if (ratio > worst) {
      worst = ratio;
      at = i;
    }
  }
  EXPECT_LE(worst, 1.0) << what << ": worst element " << at << " is " << got[at] << ", expected "
                        << want[at] << " within " << allowed[at];
}

}  // namespace moed
