// What the ends of a VirtualRankGroup share.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "kernels/cuda/cuda_api.h"
#include "parallel/rendezvous.h"

namespace moed::cuda {

struct VirtualRankState {
  struct Rank {
    void* ready = nullptr;  // events: parallel/cuda/virtual_rank_communicator.h
    void* done = nullptr;
    // What the rank sends in an exchange of counts. Two, as it writes the next while others may
    // still read the last; it cannot write one anew before all have come to the exchange after it.
    std::array<std::vector<int64_t>, 2> counts;
  };

  VirtualRankState(const CudaApi& cuda_api, int num_ranks, std::chrono::milliseconds deadline)
      : api(cuda_api), rendezvous(num_ranks, deadline), ranks(static_cast<size_t>(num_ranks)) {}
  ~VirtualRankState() {
    for (const Rank& rank : ranks) {
      if (rank.ready != nullptr) api.destroy_event(rank.ready);
      if (rank.done != nullptr) api.destroy_event(rank.done);
    }
  }
  VirtualRankState(const VirtualRankState&) = delete;
  VirtualRankState& operator=(const VirtualRankState&) = delete;

  const CudaApi& api;
  Rendezvous rendezvous;
  std::vector<Rank> ranks;  // [num_ranks]
};

}  // namespace moed::cuda
