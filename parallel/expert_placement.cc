#include "parallel/expert_placement.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/core/check.h"

namespace moed {

ExpertPlacement ExpertPlacement::Even(int num_layers, int num_experts, int num_ranks) {
  MOED_CHECK(num_layers >= 0 && num_experts > 0 && num_ranks > 0,
             "a placement needs experts and ranks");
  ExpertPlacement placement;
  placement.num_layers_ = num_layers;
  placement.num_experts_ = num_experts;
  placement.num_ranks_ = num_ranks;
  placement.rank_of_.reserve(static_cast<size_t>(num_layers) * static_cast<size_t>(num_experts));
  placement.experts_on_rank_.resize(static_cast<size_t>(num_ranks) *
                                    static_cast<size_t>(num_layers));
  for (int layer = 0; layer < num_layers; ++layer) {
    for (int expert = 0; expert < num_experts; ++expert) {
      const int64_t place = int64_t{layer} * num_experts + expert;
      const auto rank = static_cast<int32_t>(place % num_ranks);
      placement.rank_of_.push_back(rank);
      std::vector<int32_t>& experts =
          placement.experts_on_rank_[static_cast<size_t>(rank) * static_cast<size_t>(num_layers) +
                                     static_cast<size_t>(layer)];
      experts.push_back(expert);
      placement.max_local_experts_ =
          std::max(placement.max_local_experts_, static_cast<int>(experts.size()));
    }
  }
  return placement;
}

int ExpertPlacement::RankOf(int layer, int expert) const {
  MOED_CHECK(expert >= 0 && expert < num_experts_, "an expert outside the placement");
  return RankOfExpert(layer)[static_cast<size_t>(expert)];
}

absl::Span<const int32_t> ExpertPlacement::ExpertsOn(int rank, int layer) const {
  MOED_CHECK(rank >= 0 && rank < num_ranks_, "a rank outside the placement");
  MOED_CHECK(layer >= 0 && layer < num_layers_, "a layer outside the placement");
  return experts_on_rank_[static_cast<size_t>(rank) * static_cast<size_t>(num_layers_) +
                          static_cast<size_t>(layer)];
}

absl::Span<const int32_t> ExpertPlacement::RankOfExpert(int layer) const {
  MOED_CHECK(layer >= 0 && layer < num_layers_, "a layer outside the placement");
  return absl::MakeConstSpan(rank_of_).subspan(
      static_cast<size_t>(layer) * static_cast<size_t>(num_experts_),
      static_cast<size_t>(num_experts_));
}

std::vector<int32_t> ExpertPlacement::LocalExpertOf(int rank, int layer) const {
  std::vector<int32_t> local_expert_of(static_cast<size_t>(num_experts_), -1);
  int32_t local_expert_id = 0;
  for (const int32_t expert : ExpertsOn(rank, layer)) {
    local_expert_of[static_cast<size_t>(expert)] = local_expert_id++;
  }
  return local_expert_of;
}

}  // namespace moed
