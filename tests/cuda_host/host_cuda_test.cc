// The stand-in of the CUDA runtime: when work runs, what it refuses, what it reports.
#include "tests/cuda_host/host_cuda.h"

#include <array>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "tests/cuda_host/launch_log.h"
#include "tests/cuda_host/sanitizer.h"
#include "tests/cuda_host/self_test_kernels.h"

namespace moed::cuda_host {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

constexpr int kInvalidConfiguration = 9;

class HostCudaTest : public testing::Test {
 protected:
  HostCudaTest() { testing::GTEST_FLAG(death_test_style) = "threadsafe"; }
  ~HostCudaTest() override {
    ClearFailures();
    for (void* stream : streams_) EXPECT_EQ(api_.destroy_stream(stream), 0);
    for (void* event : events_) EXPECT_EQ(api_.destroy_event(event), 0);
    for (void* memory : allocations_) EXPECT_EQ(api_.release(memory), 0);
    SetDevice();
  }

  void* NewStream() {
    streams_.push_back(nullptr);
    EXPECT_EQ(api_.create_stream(&streams_.back()), 0);
    return streams_.back();
  }
  void* NewEvent(bool timed = false) {
    events_.push_back(nullptr);
    EXPECT_EQ(api_.create_event(&events_.back(), timed), 0);
    return events_.back();
  }
  int32_t* NewInts(size_t count) {
    allocations_.push_back(nullptr);
    EXPECT_EQ(api_.allocate(&allocations_.back(), count * sizeof(int32_t)), 0);
    return static_cast<int32_t*>(allocations_.back());
  }
  void Copy(void* to, const void* from, size_t bytes, void* stream) {
    EXPECT_EQ(api_.copy(to, from, bytes, stream), 0);
  }

  const cuda::CudaApi& api_ = HostCudaApi();

 private:
  std::vector<void*> streams_;
  std::vector<void*> events_;
  std::vector<void*> allocations_;
};

TEST_F(HostCudaTest, WorkRunsInOrderWhenSomebodyWaits) {
  void* const stream = NewStream();
  int32_t* const device = NewInts(2);
  std::array<int32_t, 2> host{1, 2};
  std::array<int32_t, 2> back{};
  Copy(device, host.data(), sizeof(host), stream);
  Copy(back.data(), device, sizeof(back), stream);
  host = {3, 4};  // too early, so the copy takes the new values
  EXPECT_EQ(CountPendingOperations(), 2);
  EXPECT_THAT(back, Each(0));
  EXPECT_EQ(api_.synchronize_stream(stream), 0);
  EXPECT_EQ(CountPendingOperations(), 0);
  EXPECT_THAT(back, ElementsAre(3, 4));
}

TEST_F(HostCudaTest, AStreamWithoutAWaitDoesNotRunTheOther) {
  void* const writer = NewStream();
  void* const reader = NewStream();
  int32_t* const device = NewInts(1);
  const int32_t value = 5;
  int32_t back = 0;
  Copy(device, &value, 4, writer);
  Copy(&back, device, 4, reader);
  api_.synchronize_stream(reader);
  EXPECT_EQ(back, static_cast<int32_t>(0xCDCDCDCD));
  api_.synchronize_stream(writer);
}

TEST_F(HostCudaTest, AWaitRunsTheOtherStreamUpToTheEvent) {
  void* const writer = NewStream();
  void* const reader = NewStream();
  void* const event = NewEvent();
  int32_t* const device = NewInts(1);
  const std::array<int32_t, 2> values{5, 6};
  int32_t back = 0;
  Copy(device, &values[0], 4, writer);
  api_.record_event(event, writer);
  Copy(device, &values[1], 4, writer);
  api_.wait_event(reader, event);
  Copy(&back, device, 4, reader);
  api_.synchronize_stream(reader);
  EXPECT_EQ(back, 5);
  EXPECT_EQ(CountPendingOperations(), 1);
  api_.synchronize_stream(writer);
}

TEST_F(HostCudaTest, AWaitMeansTheRecordBeforeIt) {
  void* const writer = NewStream();
  void* const reader = NewStream();
  void* const event = NewEvent();
  int32_t* const device = NewInts(1);
  const int32_t value = 5;
  api_.wait_event(reader, event);  // never recorded: waits for nothing
  Copy(device, &value, 4, writer);
  api_.record_event(event, writer);
  EXPECT_EQ(api_.query_event(event), cuda::kCudaErrorNotReady);
  EXPECT_EQ(api_.synchronize_stream(reader), 0);
  EXPECT_EQ(CountPendingOperations(), 1);  // the query ran the copy
  EXPECT_EQ(api_.synchronize_event(event), 0);
  EXPECT_EQ(CountPendingOperations(), 0);
}

TEST_F(HostCudaTest, WhoPollsAnEventGetsOn) {
  void* const stream = NewStream();
  void* const event = NewEvent();
  int32_t* const device = NewInts(1);
  EXPECT_EQ(api_.query_event(event), 0);
  for (int i = 0; i < 5; ++i) api_.set_bytes(device, i, 4, stream);
  api_.record_event(event, stream);
  int polls = 0;
  while (api_.query_event(event) == cuda::kCudaErrorNotReady) ++polls;
  EXPECT_EQ(polls, 6);
}

TEST_F(HostCudaTest, EventsMeasureTime) {
  void* const stream = NewStream();
  void* const start = NewEvent(true);
  void* const stop = NewEvent(true);
  float ms = -1;
  api_.record_event(start, stream);
  LaunchBarriers({.stream = stream}, 4, 256, 20);
  api_.record_event(stop, stream);
  EXPECT_EQ(api_.elapsed_ms(&ms, start, stop), cuda::kCudaErrorNotReady);
  api_.synchronize_event(stop);
  EXPECT_EQ(api_.elapsed_ms(&ms, start, stop), 0);
  EXPECT_GT(ms, 0.0F);
}

TEST_F(HostCudaTest, RanksRunTheirStreamsAtOnce) {
  constexpr int kRanks = 8;
  constexpr int kSteps = 20;
  std::array<void*, kRanks> streams;
  std::array<void*, kRanks> events;
  std::array<int32_t*, kRanks> cells;
  for (int rank = 0; rank < kRanks; ++rank) {
    streams[rank] = NewStream();
    events[rank] = NewEvent();
    cells[rank] = NewInts(256 * kSteps + 1);
    api_.set_bytes(cells[rank], 0, 4 * (256 * kSteps + 1), streams[rank]);
    api_.record_event(events[rank], streams[rank]);
  }
  std::array<std::thread, kRanks> threads;
  for (int rank = 0; rank < kRanks; ++rank) {
    threads[rank] = std::thread([&, rank] {
      const cuda::LaunchContext context{.stream = streams[rank]};
      // Each reads what its neighbour has cleared.
      const int32_t* const theirs = cells[(rank + 1) % kRanks];
      api_.wait_event(streams[rank], events[(rank + 1) % kRanks]);
      for (int step = 0; step < kSteps; ++step) {
        LaunchTreeSum(context, theirs, cells[rank] + 256 * kSteps, 1, 256);
        if (step % 5 == 0) api_.synchronize_stream(streams[rank]);
      }
      api_.synchronize_stream(streams[rank]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int rank = 0; rank < kRanks; ++rank) {
    int32_t sum = -1;
    Copy(&sum, cells[rank] + 256 * kSteps, 4, streams[rank]);
    api_.synchronize_stream(streams[rank]);
    EXPECT_EQ(sum, 0);
  }
}

TEST_F(HostCudaTest, LaunchesThatCudaRefusesAreRefused) {
  const cuda::LaunchContext context{.stream = NewStream()};
  int32_t* const out = NewInts(1);
  const auto launch = [&](GridShape grid, GridShape block, int64_t shared_bytes = 0) {
    return LaunchAnything(context, grid, block, shared_bytes, out);
  };
  EXPECT_EQ(launch({1, 1, 1}, {1024, 1, 1}, 227 * 1024), 0);
  EXPECT_EQ(launch({1, 65535, 1}, {1, 1, 1}), 0);
  EXPECT_EQ(launch({0, 1, 1}, {1, 1, 1}), kInvalidConfiguration);
  EXPECT_EQ(launch({1, 65536, 1}, {1, 1, 1}), kInvalidConfiguration);
  EXPECT_EQ(launch({1, 1, 65536}, {1, 1, 1}), kInvalidConfiguration);
  EXPECT_EQ(launch({1, 1, 1}, {0, 1, 1}), kInvalidConfiguration);
  EXPECT_EQ(launch({1, 1, 1}, {1025, 1, 1}), kInvalidConfiguration);
  EXPECT_EQ(launch({1, 1, 1}, {32, 33, 1}), kInvalidConfiguration);
  EXPECT_EQ(launch({1, 1, 1}, {1, 1, 65}), kInvalidConfiguration);
  EXPECT_EQ(launch({1, 1, 1}, {1, 1, 1}, 227 * 1024 + 1), kInvalidConfiguration);
}

TEST_F(HostCudaTest, MemoryEndsWhereTheSettingSays) {
  SetDevice({.total_memory_bytes = 1000});
  NewInts(200);
  void* memory = nullptr;
  EXPECT_EQ(api_.allocate(&memory, 201), cuda::kCudaErrorMemoryAllocation);
  EXPECT_EQ(memory, nullptr);
  int64_t free_bytes = 0;
  int64_t total_bytes = 0;
  EXPECT_EQ(api_.get_memory(&free_bytes, &total_bytes), 0);
  EXPECT_EQ(free_bytes, 200);
  EXPECT_EQ(total_bytes, 1000);
}

TEST_F(HostCudaTest, WithoutADriverTheCountIsLeftAlone) {
  SetDevice({.driver_error = cuda::kCudaErrorInsufficientDriver});
  int count = -7;
  EXPECT_EQ(api_.get_device_count(&count), cuda::kCudaErrorInsufficientDriver);
  EXPECT_EQ(count, -7);
}

TEST_F(HostCudaTest, CallsFailAsAsked) {
  const cuda::LaunchContext context{.stream = NewStream()};
  int32_t* const out = NewInts(1);
  FailCall("allocate", 2, cuda::kCudaErrorMemoryAllocation);
  NewInts(1);
  void* memory = nullptr;
  EXPECT_EQ(api_.allocate(&memory, 4), cuda::kCudaErrorMemoryAllocation);
  NewInts(1);
  FailCall("launch_kernel", 1, 719, /*sticky=*/true);
  EXPECT_EQ(LaunchAnything(context, {1, 1, 1}, {1, 1, 1}, 0, out), 719);
  EXPECT_EQ(api_.synchronize_stream(context.stream), 719);
  EXPECT_STREQ(api_.error_name(719), "cudaErrorLaunchFailure");
  ClearFailures();
  EXPECT_EQ(api_.synchronize_stream(context.stream), 0);
}

TEST_F(HostCudaTest, TheLogCountsKernelsThatRan) {
  const cuda::LaunchContext context{.stream = NewStream()};
  int32_t* const out = NewInts(1);
  ResetLaunchCounts();
  LaunchAnything(context, {1, 1, 1}, {1, 1, 1}, 0, out);
  LaunchAnything(context, {2, 1, 1}, {1, 1, 1}, 0, out);
  EXPECT_TRUE(LaunchCounts().empty());
  api_.synchronize_stream(context.stream);
  EXPECT_THAT(LaunchCounts(), ElementsAre(Pair("AnythingKernel", 2)));
  ResetLaunchCounts();
  EXPECT_TRUE(LaunchCounts().empty());
  EXPECT_GE(TotalLaunchCounts()["AnythingKernel"], 2);
  EXPECT_EQ(KernelName("(moed::cuda::RmsNormKernel<BFloat16, 256>)"), "RmsNormKernel");
  EXPECT_EQ(KernelName("Kernel<float>"), "Kernel");
}

TEST_F(HostCudaTest, MisuseAborts) {
  void* const stream = NewStream();
  int32_t* const device = NewInts(4);
  std::array<int32_t, 8> host{};
  EXPECT_DEATH(api_.copy(device, host.data(), 20, stream), HasSubstr("leaves its allocation"));
  EXPECT_DEATH(api_.copy(host.data(), device + 3, 8, stream), HasSubstr("leaves its allocation"));
  EXPECT_DEATH(api_.copy(device, device + 1, 8, stream), HasSubstr("overlaps itself"));
  EXPECT_DEATH(api_.set_bytes(host.data(), 0, 4, stream), HasSubstr("no device memory"));
  EXPECT_DEATH(api_.release(host.data()), HasSubstr("not allocated"));
  EXPECT_DEATH(api_.release_pinned(device), HasSubstr("the other kind"));
  EXPECT_DEATH(
      {
        api_.destroy_stream(stream);
        api_.synchronize_stream(stream);
      },
      HasSubstr("a stream is used that is not there"));
  EXPECT_DEATH(api_.record_event(&host, stream), HasSubstr("an event is used"));
}

TEST_F(HostCudaTest, AReleasedSourceOfACopyIsFound) {
  if (!kAddressSanitizer) GTEST_SKIP() << "needs AddressSanitizer";
  void* const stream = NewStream();
  int32_t* const device = NewInts(4);
  EXPECT_DEATH(
      {
        auto staging = std::make_unique<int32_t[]>(4);
        api_.copy(device, staging.get(), 16, stream);
        staging.reset();
        api_.synchronize_stream(stream);
      },
      HasSubstr("heap-use-after-free"));
}

}  // namespace
}  // namespace moed::cuda_host
