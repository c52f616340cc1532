// Which rank holds which expert.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace moed {

// A pure table: every (layer, expert) lives on exactly one rank. On its rank an expert has a local
// expert id: its place among the layer's experts there, by ascending expert id.
class ExpertPlacement {
 public:
  // Spreads experts as evenly as can be, within a layer and over the layers: expert e of layer l
  // goes to rank (l * num_experts + e) mod num_ranks. num_ranks may exceed num_experts.
  static ExpertPlacement Even(int num_layers, int num_experts, int num_ranks);

  int num_layers() const { return num_layers_; }
  int num_experts() const { return num_experts_; }
  int num_ranks() const { return num_ranks_; }

  int RankOf(int layer, int expert) const;
  // Expert ids on `rank` in `layer`, ascending; entry i is local expert i. May be empty.
  absl::Span<const int32_t> ExpertsOn(int rank, int layer) const;
  // Most experts that any rank holds in any layer.
  int max_local_experts() const { return max_local_experts_; }

  // Tables for the device: rank of each expert, [num_experts]; local id on `rank` or -1,
  // [num_experts].
  absl::Span<const int32_t> RankOfExpert(int layer) const;
  std::vector<int32_t> LocalExpertOf(int rank, int layer) const;

 private:
  ExpertPlacement() = default;

  int num_layers_ = 0;
  int num_experts_ = 0;
  int num_ranks_ = 0;
  int max_local_experts_ = 0;
  std::vector<int32_t> rank_of_;                       // [num_layers * num_experts]
  std::vector<std::vector<int32_t>> experts_on_rank_;  // [num_ranks * num_layers]
};

}  // namespace moed
