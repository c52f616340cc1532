// Runs a test's body on one thread per rank.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "parallel/communicator.h"
#include "parallel/communicator_group.h"
#include "parallel/local_communicator.h"

namespace moed {

// Longer than any test runs: a rank that waits this long is stuck.
inline constexpr std::chrono::milliseconds kPatience{120'000};

inline std::shared_ptr<LocalGroup> MakeGroup(int num_ranks,
                                             std::chrono::milliseconds deadline = kPatience) {
  return LocalGroup::Create(num_ranks, LocalGroupOptions{deadline}).value();
}

// What `body` returned on each rank.
inline std::vector<absl::Status> RunRanks(CommunicatorGroup& group,
                                          const std::function<absl::Status(Communicator&)>& body) {
  std::vector<absl::Status> results(static_cast<size_t>(group.num_ranks()));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < group.num_ranks(); ++rank) {
    threads.emplace_back([&, rank] {
      const std::unique_ptr<Communicator> communicator = group.MakeEnd(rank);
      results[static_cast<size_t>(rank)] = body(*communicator);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return results;
}

}  // namespace moed
