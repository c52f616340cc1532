// The events of an exchange do their work: with one sort of them left out, what arrives is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "kernels/core/status.h"
#include "tests/parallel/cuda/rank_device.h"

namespace moed::cuda {
namespace {

using ::testing::Each;

constexpr int64_t kSize = 4;
constexpr int kSent[] = {0x11, 0x22};  // by rank: every byte
constexpr int kOverwritten = 0xEE;

int64_t NumberOf(int byte) {
  return static_cast<int64_t>(0x0101010101010101U * static_cast<uint64_t>(byte));
}

// Which waits of a stream for an event of a group do nothing. A group makes its events rank by
// rank, 'ready' before 'done'.
enum class Without { kNothing, kReady, kDone };

struct Sabotage {
  Without without = Without::kNothing;
  std::vector<void*> events;
} sabotage;

CudaError CreateEvent(void** event, bool timed) {
  const CudaError error = cuda_host::HostCudaApi().create_event(event, timed);
  sabotage.events.push_back(*event);
  return error;
}

CudaError WaitEvent(void* stream, void* event) {
  for (size_t i = 0; i < sabotage.events.size(); ++i) {
    const Without sort = i % 2 == 0 ? Without::kReady : Without::kDone;
    if (sabotage.events[i] == event && sort == sabotage.without) return kCudaSuccess;
  }
  return cuda_host::HostCudaApi().wait_event(stream, event);
}

// What rank 0 receives of rank 1 when both have enqueued: fill the send buffer, gather, overwrite
// it. `first` is the rank whose stream runs first.
Numbers ReceivedOfRankOne(Without without, int first) {
  sabotage = Sabotage{without, {}};
  static CudaApi api = cuda_host::HostCudaApi();
  api.create_event = CreateEvent;
  api.wait_event = WaitEvent;
  const auto group = MakeVirtualGroup(2, kPatience, api);
  RankDevice devices[2] = {RankDevice(api), RankDevice(api)};
  DeviceRows send[2];
  DeviceRows recv[2];
  const auto results = RunRanks(*group, [&](Communicator& communicator) {
    const int rank = communicator.rank();
    send[rank] = devices[rank].Make(kSize);
    recv[rank] = devices[rank].Make(2 * kSize);
    devices[rank].Fill(send[rank], kSent[rank]);
    const absl::Status status = communicator.AllGather(devices[rank].stream(), {0, 0, "gather"},
                                                       send[rank].view(), recv[rank].view());
    devices[rank].Fill(send[rank], kOverwritten);
    return status;
  });
  for (const absl::Status& status : results) EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(devices[first].stream().Synchronize().ok());
  const Numbers numbers = devices[0].Get(recv[0]);
  EXPECT_TRUE(devices[1].stream().Synchronize().ok());
  return Numbers(numbers.begin() + kSize, numbers.end());
}

TEST(VirtualRankOrder, WhatWasSentArrivesWhicheverStreamRunsFirst) {
  for (const int first : {0, 1}) {
    EXPECT_THAT(ReceivedOfRankOne(Without::kNothing, first), Each(NumberOf(kSent[1]))) << first;
  }
}

TEST(VirtualRankOrder, AReceiverThatDoesNotWaitReadsWhatIsNotThereYet) {
  EXPECT_THAT(ReceivedOfRankOne(Without::kReady, /*first=*/0), Each(0));
}

TEST(VirtualRankOrder, ASenderThatDoesNotWaitOverwritesWhatIsNotRead) {
  EXPECT_THAT(ReceivedOfRankOne(Without::kDone, /*first=*/1), Each(NumberOf(kOverwritten)));
}

}  // namespace
}  // namespace moed::cuda
