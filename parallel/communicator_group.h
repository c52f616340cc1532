// A group of ranks that exchange data, and the ends that it hands out.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "parallel/communicator.h"

namespace moed {

// Its state lives as long as any of its ends, so that a rank that comes late, after the others have
// failed and gone, still finds it.
class CommunicatorGroup {
 public:
  virtual ~CommunicatorGroup() = default;

  virtual int num_ranks() const = 0;

  // The end of `rank`; made once for each rank, from any thread. A rank that destroys its end has
  // left the group: whoever waits for it, or comes to, fails at once.
  virtual std::unique_ptr<Communicator> MakeEnd(int rank) = 0;

  // As Communicator::Abort, for whoever watches the group and is no rank of it. From any thread.
  virtual void Abort(const absl::Status& reason) = 0;
};

// Makes a group of `num_ranks` ranks of this process. `deadline`: LocalGroupOptions.
using CommunicatorGroupFactory = std::function<absl::StatusOr<std::shared_ptr<CommunicatorGroup>>(
    int num_ranks, std::chrono::milliseconds deadline)>;

}  // namespace moed
