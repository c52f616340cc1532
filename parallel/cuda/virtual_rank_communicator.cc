#include "parallel/cuda/virtual_rank_communicator.h"

#include <cstddef>
#include <memory>
#include <utility>

#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "kernels/cuda/cuda_stream.h"
#include "parallel/cuda/virtual_rank_end.h"
#include "parallel/cuda/virtual_rank_state.h"
#include "parallel/rendezvous.h"

namespace moed::cuda {

absl::StatusOr<std::shared_ptr<VirtualRankGroup>> VirtualRankGroup::Create(
    int num_ranks, const VirtualRankGroupOptions& options) {
  MOED_RETURN_IF_ERROR(CheckGroup(num_ranks, options.deadline));
  const CudaApi& api = *options.api;
  MOED_RETURN_IF_ERROR(CudaStatus(api, api.set_device(options.device), "choosing the device"));
  auto state = std::make_shared<VirtualRankState>(api, num_ranks, options.deadline);
  for (VirtualRankState::Rank& rank : state->ranks) {
    for (void** event : {&rank.ready, &rank.done}) {
      MOED_RETURN_IF_ERROR(
          CudaStatus(api, api.create_event(event, /*timed=*/false), "creating an event"));
    }
  }
  return std::shared_ptr<VirtualRankGroup>(new VirtualRankGroup(std::move(state)));
}

VirtualRankGroup::VirtualRankGroup(std::shared_ptr<VirtualRankState> state)
    : state_(std::move(state)), has_end_(state_->ranks.size(), false) {}

VirtualRankGroup::~VirtualRankGroup() = default;

int VirtualRankGroup::num_ranks() const { return static_cast<int>(state_->ranks.size()); }

std::unique_ptr<Communicator> VirtualRankGroup::MakeEnd(int rank) {
  MOED_CHECK(rank >= 0 && rank < num_ranks(), "an end for a rank outside the group");
  const auto index = static_cast<size_t>(rank);
  MutexLock lock(mutex_);
  MOED_CHECK(!has_end_[index], "a rank's second end");
  has_end_[index] = true;
  return std::make_unique<VirtualRankEnd>(rank, state_);
}

void VirtualRankGroup::Abort(const absl::Status& reason) {
  state_->rendezvous.Abort(Rendezvous::kOwner, reason);
}

}  // namespace moed::cuda
