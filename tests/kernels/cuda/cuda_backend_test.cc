// The backend as a whole, on the stand-ins: memory, errors, devices, timers, packing.
#include "kernels/cuda/cuda_backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "kernels/core/float_types.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/pack_tensor.h"
#include "tests/cuda_host/host_cuda.h"
#include "tests/cuda_host/host_gemm.h"
#include "tests/kernels/cuda/device_fixture.h"

namespace moed::cuda {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr CudaError kLaunchFailure = 719;

// Of zero and of values that are normal and exact in float16.
Float16 ToFloat16(float value) {
  if (value == 0) return Float16{0};
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t exponent = ((bits >> 23) & 0xff) - 127 + 15;
  return Float16{
      static_cast<uint16_t>(((bits >> 16) & 0x8000) | (exponent << 10) | ((bits >> 13) & 0x3ff))};
}

CudaBackendOptions Options(DType act = DType::kFloat32) {
  CudaBackendOptions options;
  options.api = &cuda_host::HostCudaApi();
  options.gemm_api = &cuda_host::HostGemmApi();
  options.activation_dtype = act;
  return options;
}

WorkspaceLimits SmallLimits() {
  WorkspaceLimits limits;
  limits.max_rows = 8;
  limits.max_expert_rows = 16;
  limits.max_logit_rows = 4;
  limits.max_context_tokens = 64;
  limits.hidden = 32;
  limits.ffn = 48;
  limits.vocab = 50;
  limits.num_heads = 4;
  limits.num_kv_heads = 2;
  limits.head_dim = 8;
  limits.num_experts = 4;
  limits.top_k = 2;
  return limits;
}

class CudaBackendTest : public ::testing::Test {
 protected:
  ~CudaBackendTest() override {
    backend_.reset();
    cuda_host::SetDevice();
  }

  Backend& backend() {
    if (backend_ == nullptr) backend_ = MakeCudaBackend(Options()).value();
    return *backend_;
  }
  void SetDevice(const cuda_host::DeviceSettings& settings) {
    backend_.reset();
    cuda_host::SetDevice(settings);
  }

  template <typename T>
  std::vector<T> Download(const Buffer& buffer) {
    std::vector<T> values(static_cast<size_t>(buffer.bytes()) / sizeof(T));
    const std::unique_ptr<Stream> stream = backend().CreateStream();
    const auto size = static_cast<int64_t>(values.size());
    const DType dtype = DTypeOf<T>::kValue;
    backend().CopyToHost(*stream, buffer.View(dtype, {size}),
                         TensorView(values.data(), dtype, {size}));
    EXPECT_TRUE(backend().Synchronize(*stream).ok());
    return values;
  }

  std::unique_ptr<Backend> backend_;
};

TEST_F(CudaBackendTest, SaysWhichDeviceInWhichMode) {
  EXPECT_EQ(backend().Description(), "host emulation (device 0, sm_90, 16 GiB), float32");
  CudaBackendOptions options = Options(DType::kBFloat16);
  options.deterministic = true;
  EXPECT_EQ(MakeCudaBackend(options).value()->Description(),
            "host emulation (device 0, sm_90, 16 GiB), bfloat16, deterministic");
}

TEST_F(CudaBackendTest, RefusesWhatItCannotRunOn) {
  CudaBackendOptions options = Options();
  options.device = 1;
  absl::Status status = MakeCudaBackend(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no CUDA device 1: the machine has 1"));
  options.device = -1;
  EXPECT_EQ(MakeCudaBackend(options).status().code(), absl::StatusCode::kInvalidArgument);

  status = MakeCudaBackend(Options(DType::kFloat16)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("not float16"));

  cuda_host::DeviceSettings settings;
  settings.major = 7;
  settings.minor = 5;
  SetDevice(settings);
  status = MakeCudaBackend(Options()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("compute capability 7.5"), HasSubstr("need 8.0 (Ampere)")));

  settings.major = 8;
  settings.minor = 0;
  SetDevice(settings);
  EXPECT_TRUE(MakeCudaBackend(Options()).ok());

  settings.driver_error = kCudaErrorInsufficientDriver;
  SetDevice(settings);
  EXPECT_THAT(std::string(MakeCudaBackend(Options()).status().message()),
              HasSubstr("cudaErrorInsufficientDriver (35)"));
}

TEST_F(CudaBackendTest, CountsMemoryByKindAndZeroesIt) {
  const int64_t before = backend().allocated_bytes(MemoryKind::kWorkspace);
  {
    const Buffer cache = backend().Allocate(MemoryKind::kKvCache, 1000).value();
    const Buffer exchange = backend().Allocate(MemoryKind::kExchange, 24).value();
    EXPECT_EQ(backend().allocated_bytes(MemoryKind::kKvCache), 1000);
    EXPECT_EQ(backend().allocated_bytes(MemoryKind::kExchange), 24);
    EXPECT_EQ(backend().allocated_bytes(MemoryKind::kWeights), 0);
    EXPECT_EQ(backend().allocated_bytes(MemoryKind::kWorkspace), before);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(cache.data()) % 64, 0U);
    EXPECT_THAT(Download<int32_t>(exchange), ElementsAre(0, 0, 0, 0, 0, 0));
  }
  EXPECT_EQ(backend().allocated_bytes(MemoryKind::kKvCache), 0);
}

TEST_F(CudaBackendTest, StagingIsPageLockedAndZeroed) {
  const int64_t before = cuda_host::CountLiveObjects().pinned_allocations;
  const Buffer staging = backend().AllocateStaging(100).value();
  EXPECT_EQ(cuda_host::CountLiveObjects().pinned_allocations, before + 1);
  const auto* bytes = static_cast<const char*>(staging.data());
  EXPECT_THAT(std::vector<char>(bytes, bytes + 100), Each(0));
  EXPECT_EQ(backend().AllocateStaging(-1).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CudaBackendTest, WhatDoesNotFitIsRefusedWithNumbers) {
  cuda_host::DeviceSettings settings;
  settings.total_memory_bytes = int64_t{64} << 20;
  SetDevice(settings);
  const Buffer cache = backend().Allocate(MemoryKind::kKvCache, 1 << 20).value();
  const absl::Status status = backend().Allocate(MemoryKind::kWeights, int64_t{80} << 20).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("no room for 83886080 bytes of weights"), HasSubstr("of 67108864"),
                    HasSubstr("KV cache 1048576")));
}

TEST_F(CudaBackendTest, WorkspaceThatDoesNotFitIsRefused) {
  cuda_host::DeviceSettings settings;
  settings.total_memory_bytes = 4 << 10;
  SetDevice(settings);
  EXPECT_EQ(backend().PrepareWorkspace(SmallLimits()).code(), absl::StatusCode::kResourceExhausted);
  WorkspaceLimits limits = SmallLimits();
  limits.vocab = -1;
  EXPECT_EQ(backend().PrepareWorkspace(limits).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CudaBackendTest, TakesTheWorkspaceThatItSays) {
  WorkspaceLimits wide = SmallLimits();  // attention split, experts through the library
  wide.max_rows = 600;
  wide.max_expert_rows = 1200;
  wide.max_logit_rows = 40;
  wide.max_context_tokens = 4096;
  WorkspaceLimits without_logits = SmallLimits();
  without_logits.max_logit_rows = 0;
  for (const DType act : {DType::kFloat32, DType::kBFloat16}) {
    for (const bool deterministic : {false, true}) {
      CudaBackendOptions options = Options(act);
      options.deterministic = deterministic;
      const auto made = MakeCudaBackend(options).value();
      for (const WorkspaceLimits& limits : {SmallLimits(), wide, without_logits}) {
        const int64_t before = made->allocated_bytes(MemoryKind::kWorkspace);
        const absl::StatusOr<int64_t> planned = made->WorkspaceBytes(limits);
        ASSERT_TRUE(planned.ok()) << planned.status();
        EXPECT_EQ(made->allocated_bytes(MemoryKind::kWorkspace), before);
        ASSERT_TRUE(made->PrepareWorkspace(limits).ok());
        EXPECT_EQ(made->allocated_bytes(MemoryKind::kWorkspace), *planned)
            << DTypeName(act) << (deterministic ? ", deterministic, " : ", ") << limits.max_rows;
      }
    }
  }
}

TEST_F(CudaBackendTest, WorkspaceThatCannotBeIsSaidBeforeItIsTaken) {
  WorkspaceLimits limits = SmallLimits();
  limits.head_dim = 512;
  EXPECT_EQ(backend().WorkspaceBytes(limits).status(), backend().PrepareWorkspace(limits));
  EXPECT_EQ(backend().WorkspaceBytes(limits).status().code(), absl::StatusCode::kInvalidArgument);
  limits = SmallLimits();
  limits.ffn = int64_t{1} << 60;
  EXPECT_EQ(backend().WorkspaceBytes(limits).value(), std::numeric_limits<int64_t>::max());
  limits.ffn = -1;
  EXPECT_EQ(backend().WorkspaceBytes(limits).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CudaBackendTest, WorkspacePreparedAnewDoesNotAddUp) {
  ASSERT_TRUE(backend().PrepareWorkspace(SmallLimits()).ok());
  const int64_t once = backend().allocated_bytes(MemoryKind::kWorkspace);
  EXPECT_GT(once, 0);
  ASSERT_TRUE(backend().PrepareWorkspace(SmallLimits()).ok());
  EXPECT_EQ(backend().allocated_bytes(MemoryKind::kWorkspace), once);
}

TEST_F(CudaBackendTest, AKernelThatFailsIsNamedWhenTheStreamIsSynchronized) {
  const Buffer memory = backend().Allocate(MemoryKind::kActivations, 64).value();
  const std::unique_ptr<Stream> stream = backend().CreateStream();
  cuda_host::FailCall("launch_kernel", 1, kLaunchFailure);
  backend().FillSeeded(*stream, {.key = 1, .out = memory.View(DType::kFloat32, {16})});
  backend().FillSeeded(*stream, {.key = 2, .out = memory.View(DType::kFloat32, {16})});
  const absl::Status status = backend().Synchronize(*stream);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("FillSeeded: cudaErrorLaunchFailure (719)"));
  EXPECT_EQ(backend().Synchronize(*stream), status) << "it stays";
}

TEST_F(CudaBackendTest, ACopyThatFailsIsNamed) {
  const Buffer memory = backend().Allocate(MemoryKind::kActivations, 4).value();
  const std::unique_ptr<Stream> stream = backend().CreateStream();
  const int32_t value = 7;
  cuda_host::FailCall("copy", 1, kLaunchFailure);
  backend().CopyToDevice(*stream, ConstTensorView(&value, DType::kInt32, {1}),
                         memory.View(DType::kInt32, {1}));
  EXPECT_THAT(std::string(backend().Synchronize(*stream).message()), HasSubstr("CopyToDevice"));
}

TEST_F(CudaBackendTest, AStreamThatCannotBeHadSaysSoWhenItIsSynchronized) {
  backend();
  cuda_host::FailCall("create_stream", 1, kLaunchFailure);
  const std::unique_ptr<Stream> stream = backend().CreateStream();
  EXPECT_THAT(std::string(backend().Synchronize(*stream).message()),
              HasSubstr("creating a stream: cudaErrorLaunchFailure"));
}

TEST_F(CudaBackendTest, CopiesGoInTheStreamsOrder) {
  const Buffer a = backend().Allocate(MemoryKind::kActivations, 8).value();
  const Buffer b = backend().Allocate(MemoryKind::kActivations, 8).value();
  const std::unique_ptr<Stream> stream = backend().CreateStream();
  const std::vector<int32_t> first = {1, 2};
  const std::vector<int32_t> second = {3, 4};
  std::vector<int32_t> read(2);
  const auto device = [](const Buffer& buffer) { return buffer.View(DType::kInt32, {2}); };
  const auto host = [](const std::vector<int32_t>& values) {
    return ConstTensorView(values.data(), DType::kInt32, {2});
  };
  backend().CopyToDevice(*stream, host(first), device(a));
  backend().CopyOnDevice(*stream, device(a), device(b));
  backend().CopyToDevice(*stream, host(second), device(a));
  backend().CopyToHost(*stream, device(b), TensorView(read.data(), DType::kInt32, {2}));
  EXPECT_THAT(read, ElementsAre(0, 0)) << "nothing waits before Synchronize";
  ASSERT_TRUE(backend().Synchronize(*stream).ok());
  EXPECT_THAT(read, ElementsAre(1, 2));
  EXPECT_THAT(Download<int32_t>(a), ElementsAre(3, 4));
}

TEST_F(CudaBackendTest, ATimerMeasuresWhatLiesBetween) {
  const Buffer memory = backend().Allocate(MemoryKind::kActivations, 4000).value();
  const std::unique_ptr<Stream> stream = backend().CreateStream();
  const std::unique_ptr<StreamTimer> timer = backend().CreateTimer();
  timer->Start(*stream);
  backend().FillSeeded(*stream, {.key = 1, .out = memory.View(DType::kFloat32, {1000})});
  timer->Stop(*stream);
  EXPECT_EQ(timer->seconds(), 0) << "it has not run";
  ASSERT_TRUE(backend().Synchronize(*stream).ok());
  EXPECT_GT(timer->seconds(), 0);
  EXPECT_LT(timer->seconds(), 60);
}

TEST_F(CudaBackendTest, SeededValuesAreTheCpusBitForBit) {
  const std::unique_ptr<Backend> cpu =
      MakeCpuBackend(CpuBackendOptions{CpuIsa::kReference, DType::kFloat32, nullptr}).value();
  const std::unique_ptr<Stream> cpu_stream = cpu->CreateStream();
  std::vector<float> expected(333);
  cpu->FillSeeded(*cpu_stream,
                  {.key = 5, .out = TensorView(expected.data(), DType::kFloat32, {333})});
  const Buffer memory = backend().Allocate(MemoryKind::kWeights, 333 * 4).value();
  const std::unique_ptr<Stream> stream = backend().CreateStream();
  backend().FillSeeded(*stream, {.key = 5, .out = memory.View(DType::kFloat32, {333})});
  ASSERT_TRUE(backend().Synchronize(*stream).ok());
  EXPECT_EQ(Download<float>(memory), expected);
}

TEST_F(CudaBackendTest, PacksTensorsOfTheHostInEveryType) {
  std::vector<Float16> halves;
  std::vector<BFloat16> brains;
  std::vector<float> floats;
  for (int i = 0; i < 37; ++i) {
    const float value = static_cast<float>(i) * 0.25F - 3.0F;  // exact in all three
    halves.push_back(ToFloat16(value));
    brains.push_back(ToBFloat16(value));
    floats.push_back(value);
  }
  const ConstTensorView sources[] = {ConstTensorView(halves.data(), DType::kFloat16, {37}),
                                     ConstTensorView(brains.data(), DType::kBFloat16, {37}),
                                     ConstTensorView(floats.data(), DType::kFloat32, {37})};
  for (const ConstTensorView& source : sources) {
    SCOPED_TRACE(DTypeName(source.dtype()));
    const Buffer as_float = backend().PackTensor(source, DType::kFloat32).value();
    EXPECT_EQ(Download<float>(as_float), floats);
    const Buffer as_brain = backend().PackTensor(source, DType::kBFloat16).value();
    const std::vector<BFloat16> packed = Download<BFloat16>(as_brain);
    EXPECT_EQ(std::memcmp(packed.data(), brains.data(), 37 * sizeof(BFloat16)), 0);
    // From device memory.
    const Buffer again =
        backend().PackTensor(as_brain.View(DType::kBFloat16, {37}), DType::kFloat32).value();
    EXPECT_EQ(Download<float>(again), floats);
    EXPECT_EQ(backend().allocated_bytes(MemoryKind::kWeights), 37 * (4 + 2 + 4));
  }
}

TEST_F(CudaBackendTest, PackingRefusesWhatIsNoWeightAndTakesNothing) {
  const int32_t number = 1;
  EXPECT_EQ(backend()
                .PackTensor(ConstTensorView(&number, DType::kInt32, {1}), DType::kFloat32)
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
  const float value = 1;
  EXPECT_EQ(backend()
                .PackTensor(ConstTensorView(&value, DType::kFloat32, {1}), DType::kFloat16)
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(backend()
                  .PackTensor(ConstTensorView(nullptr, DType::kFloat16, {0, 4}), DType::kFloat32)
                  .ok());
}

TEST_F(CudaBackendTest, AFailureWhilePackingIsReturned) {
  backend();
  const std::vector<float> floats(5, 1.5F);
  cuda_host::FailCall("launch_kernel", 1, kLaunchFailure);
  const absl::Status status =
      backend()
          .PackTensor(ConstTensorView(floats.data(), DType::kFloat32, {5}), DType::kBFloat16)
          .status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("cudaErrorLaunchFailure"));
}

// Names of the ranges in the order of their opening; how many are open.
std::vector<std::string> ranges;
int num_open_ranges = 0;

TEST_F(CudaBackendTest, AnOperationOpensARangeWithItsName) {
  ranges.clear();
  static CudaApi api = cuda_host::HostCudaApi();
  api.push_range = [](const char* name) {
    ranges.emplace_back(name);
    ++num_open_ranges;
  };
  api.pop_range = [] { --num_open_ranges; };
  CudaBackendOptions options = Options();
  options.api = &api;
  backend_ = MakeCudaBackend(options).value();
  const Buffer memory = backend().Allocate(MemoryKind::kActivations, 64).value();
  const std::unique_ptr<Stream> stream = backend().CreateStream();
  backend().FillSeeded(*stream, {.key = 1, .out = memory.View(DType::kFloat32, {16})});
  backend().CountChoices(*stream, {.topk_ids = memory.View(DType::kInt32, {0, 2}),
                                   .counts = memory.View(DType::kInt64, {4})});
  ASSERT_TRUE(backend().Synchronize(*stream).ok());
  EXPECT_THAT(ranges, ElementsAre("FillSeeded", "CountChoices", "Synchronize"));
  EXPECT_EQ(num_open_ranges, 0);
}

TEST_F(CudaBackendTest, OperationsAllocateNothing) {
  ASSERT_TRUE(backend().PrepareWorkspace(SmallLimits()).ok());
  const std::vector<float> values(48 * 32, 0.5F);
  const ConstTensorView part(values.data(), DType::kFloat32, {48, 32});
  const auto weight = backend().PackLinear({&part, 1}).value();
  const Buffer x = backend().Allocate(MemoryKind::kActivations, 8 * 32 * 4).value();
  const Buffer out = backend().Allocate(MemoryKind::kActivations, 8 * 48 * 4).value();
  const std::unique_ptr<Stream> stream = backend().CreateStream();
  cuda_host::ResetCudaCallCounts();
  for (const int64_t rows : {1, 8}) {
    backend().Linear(*stream, {.x = x.View(DType::kFloat32, {rows, 32}),
                               .weight = weight.get(),
                               .out = out.View(DType::kFloat32, {rows, 48})});
  }
  ASSERT_TRUE(backend().Synchronize(*stream).ok());
  const cuda_host::CallCounts counts = cuda_host::CudaCallCounts();
  EXPECT_EQ(counts.count("allocate"), 0U);
  EXPECT_EQ(counts.count("allocate_pinned"), 0U);
  EXPECT_EQ(counts.at("synchronize_stream"), 1);
}

using PackTensorTest = DeviceTest;

TEST_F(PackTensorTest, PiecesMeetWithoutGaps) {
  std::vector<Float16> halves;
  std::vector<float> expected;
  for (int i = 0; i < 101; ++i) {
    halves.push_back(ToFloat16(static_cast<float>(i)));
    if (i > 0) expected.push_back(static_cast<float>(i));
  }
  // The source begins in the middle of a word.
  const ConstTensorView source(halves.data() + 1, DType::kFloat16, {100});
  const Buffer packed =
      PackTensor(memory(), stream(), source, DType::kFloat32, /*piece_bytes=*/64).value();
  std::vector<float> values(100);
  DownloadView(packed.View(DType::kFloat32, {100}),
               TensorView(values.data(), DType::kFloat32, {100}));
  EXPECT_EQ(values, expected);
  EXPECT_EQ(memory().allocated_bytes(MemoryKind::kWorkspace), 0) << "the piece has gone";
}

}  // namespace
}  // namespace moed::cuda
