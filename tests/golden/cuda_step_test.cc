// What whole steps ask of the CUDA runtime: a range for every operation, no memory, and no wait of
// the host but those that are promised.
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/core/dtype.h"
#include "kernels/core/mutex.h"
#include "kernels/cpu/cpu_backend.h"
#include "parallel/cuda/cuda_platform.h"
#include "parallel/exchange_strategy.h"
#include "tests/cuda_host/host_cuda.h"
#include "tests/cuda_host/host_gemm.h"
#include "tests/golden/golden_model.h"
#include "tests/support/model_harness.h"

namespace moed {
namespace {

using ::testing::Contains;
using ::testing::IsSupersetOf;
using ::testing::Key;
using ::testing::Not;

// NVTX ranges of all threads.
Mutex ranges_mutex;
std::map<std::string, int64_t> ranges ABSL_GUARDED_BY(ranges_mutex);  // by name
int64_t num_open_ranges ABSL_GUARDED_BY(ranges_mutex) = 0;

void PushRange(const char* name) {
  const MutexLock lock(ranges_mutex);
  ++ranges[name];
  ++num_open_ranges;
}

void PopRange() {
  const MutexLock lock(ranges_mutex);
  --num_open_ranges;
}

std::map<std::string, int64_t> Ranges() {
  const MutexLock lock(ranges_mutex);
  return ranges;
}

// Calls that had to wait for the device.
std::atomic<int64_t> num_event_waits = 0;

cuda::CudaError SynchronizeRecorded(void* event) {
  if (cuda_host::HostCudaApi().query_event(event) != cuda::kCudaSuccess) ++num_event_waits;
  return cuda_host::HostCudaApi().synchronize_event(event);
}

// As the plugin makes it, on the stand-ins, and recorded. Outlives every backend.
GpuPlatform& RecordedDevice() {
  static const cuda::CudaApi api = [] {
    cuda::CudaApi recording = cuda_host::HostCudaApi();
    recording.push_range = PushRange;
    recording.pop_range = PopRange;
    recording.synchronize_event = SynchronizeRecorded;
    return recording;
  }();
  static const std::unique_ptr<GpuPlatform> device =
      cuda::MakeCudaPlatform(api, &cuda_host::HostGemmApi());
  return *device;
}

// Every operation of kernels/backend.h that takes a stream.
std::set<std::string> Operations() {
  std::ifstream file(std::string(MOED_SOURCE_DIR) + "/kernels/backend.h");
  const std::string header{std::istreambuf_iterator<char>(file), {}};
  const std::string backend = header.substr(header.find("class Backend {"));
  const std::regex operation(R"(virtual (?:void|absl::Status) (\w+)\(Stream& stream)");
  std::set<std::string> names;
  for (auto match = std::sregex_iterator(backend.begin(), backend.end(), operation);
       match != std::sregex_iterator(); ++match) {
    names.insert((*match)[1]);
  }
  return names;
}

class CudaStepTest : public testing::TestWithParam<ExchangeStrategy> {
 protected:
  static constexpr int kNumRanks = 2;

  CudaStepTest() : model_(OddDummyModel()) {
    const MutexLock lock(ranges_mutex);
    ranges.clear();
  }

  HarnessOptions Options() const {
    HarnessOptions options = model_.Options(CpuIsa::kPortable, DType::kBFloat16);
    options.num_ranks = kNumRanks;
    options.exchange = GetParam();
    options.num_kv_blocks = 16;
    options.max_rows = 32;
    options.capacity_factor = 1.25;
    options.make_backend = [](int) { return RecordedDevice().MakeBackend({}); };
    options.make_group = [](int num_ranks, std::chrono::milliseconds deadline) {
      return RecordedDevice().MakeVirtualRankGroup(num_ranks, /*device=*/0, deadline);
    };
    return options;
  }

  // As many tokens on each rank, with all that a step can be asked for: a prompt's logprobs, a
  // drawn token, a second choice, whose last block is a copy.
  static std::vector<HarnessRequest> Requests() {
    std::vector<HarnessRequest> requests(kNumRanks);
    for (int rank = 0; rank < kNumRanks; ++rank) {
      HarnessRequest& request = requests[static_cast<size_t>(rank)];
      request.prompt = {1, 7 + rank, 300, 5, 81};
      request.num_tokens = 3;
      request.home_rank = rank;
      request.init.sampling.n = 2;
      request.init.sampling.temperature = 0.8F;
      request.init.num_logprobs = 2;
      request.init.num_prompt_logprobs = 1;
    }
    return requests;
  }

  const GoldenModel model_;
};

TEST_P(CudaStepTest, EveryOperationOfAStepIsARangeWithItsName) {
  {
    auto harness = ModelHarness::Create(Options());
    ASSERT_TRUE(harness.ok()) << harness.status();
    ASSERT_TRUE((*harness)->Run(Requests()).ok());
  }
  std::set<std::string> expected = Operations();
  ASSERT_THAT(expected, IsSupersetOf({"Synchronize", "Embed", "FillSeeded", "Sample"}));
  expected.merge(std::set<std::string>{"dispatch rows", "dispatch ids", "combine"});
  if (GetParam() == ExchangeStrategy::kGather) {
    expected.erase("PlanSend");
    expected.erase("GatherRows");
  } else {
    expected.erase("IndexStaticSlots");
    expected.insert("dispatch counts");
  }
  std::set<std::string> names;
  for (const auto& [name, count] : Ranges()) names.insert(name);
  EXPECT_EQ(names, expected);
  const MutexLock lock(ranges_mutex);
  EXPECT_EQ(num_open_ranges, 0);
}

TEST_P(CudaStepTest, AllocatesNothingAndWaitsAsOftenAsIsPromised) {
  auto harness = ModelHarness::Create(Options());
  ASSERT_TRUE(harness.ok()) << harness.status();
  cuda_host::ResetCudaCallCounts();
  num_event_waits = 0;
  const auto run = (*harness)->Run(Requests());
  ASSERT_TRUE(run.ok()) << run.status();
  const cuda_host::CallCounts calls = cuda_host::CudaCallCounts();
  for (const char* call : {"allocate", "release", "allocate_pinned", "release_pinned",
                           "create_stream", "create_event", "get_memory"}) {
    EXPECT_THAT(calls, Not(Contains(Key(call))));
  }
  // Once a step, at its end. And in a layer of the exact exchange for the rank's own counts, after
  // which the exchange of the counts asks again and finds the stream at rest.
  const int64_t in_a_layer = GetParam() == ExchangeStrategy::kExact ? 2 : 0;
  EXPECT_EQ(calls.at("synchronize_stream"),
            run->num_steps * kNumRanks * (1 + in_a_layer * model_.config.num_layers));
  // What the sampler staged two steps ago has been read long since.
  EXPECT_EQ(calls.at("synchronize_event"), (run->num_steps - 2) * kNumRanks);
  EXPECT_EQ(num_event_waits.load(), 0);
}

// Under AddressSanitizer: what is queued when a step fails reads and writes the ranks' memory
// later.
TEST_P(CudaStepTest, WhatAFailedStepHasQueuedFindsItsMemory) {
  for (const int nth : {2, 5, 9, 14, 20}) {
    auto harness = ModelHarness::Create(Options());
    ASSERT_TRUE(harness.ok()) << harness.status();
    // Somewhere in an exchange, with work before it that has not run.
    cuda_host::FailCall("record_event", nth, /*error=*/719);
    const absl::Status status = (*harness)->Run(Requests()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status << ", call " << nth;
    cuda_host::ClearFailures();
  }
  EXPECT_EQ(cuda_host::CountLiveObjects().allocations, 0);
}

INSTANTIATE_TEST_SUITE_P(Exchanges, CudaStepTest,
                         testing::Values(ExchangeStrategy::kGather, ExchangeStrategy::kExact),
                         [](const auto& test) {
                           return std::string(ExchangeStrategyName(test.param));
                         });

}  // namespace
}  // namespace moed
