// Ranks that are threads of one process exchange through its memory.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/core/mutex.h"
#include "parallel/communicator.h"
#include "parallel/communicator_group.h"

namespace moed {

class Rendezvous;
struct Mailbox;

struct LocalGroupOptions {
  // How long the ranks that have arrived at a collective wait for the others, measured from the
  // first to arrive. Longer than any rank takes between two collectives by the wall clock, waits
  // for compute permits that other ranks hold among it: ranks that share a ThreadPool take turns.
  std::chrono::milliseconds deadline{30'000};
};

// The group of rank threads on the CPU.
class LocalGroup final : public CommunicatorGroup {
 public:
  // INVALID_ARGUMENT for num_ranks < 1 or a deadline that is not positive; RESOURCE_EXHAUSTED when
  // the mailboxes (128 KiB a rank) cannot be had.
  static absl::StatusOr<std::shared_ptr<LocalGroup>> Create(int num_ranks,
                                                            const LocalGroupOptions& options);
  ~LocalGroup() override;

  int num_ranks() const override { return num_ranks_; }
  std::unique_ptr<Communicator> MakeEnd(int rank) override;
  void Abort(const absl::Status& reason) override;

 private:
  explicit LocalGroup(int num_ranks);

  const int num_ranks_;
  std::shared_ptr<Rendezvous> rendezvous_;
  std::shared_ptr<std::vector<Mailbox>> mailboxes_;  // [num_ranks]
  Mutex mutex_;
  std::vector<bool> has_end_ ABSL_GUARDED_BY(mutex_);  // [num_ranks]
};

}  // namespace moed
