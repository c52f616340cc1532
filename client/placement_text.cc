#include "client/placement_text.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace moed {
namespace {

// Neighbours far apart, dark enough for white figures; of the 256-colour palette.
constexpr std::array<int, 8> kRankColors = {25, 130, 29, 125, 61, 94, 23, 88};

std::string Cell(uint32_t rank, int width, const TextStyle& style) {
  const std::string number = absl::StrFormat("%*d", width, rank);
  if (!style.color) return number;
  return absl::StrFormat("\033[97;48;5;%dm%s\033[0m", kRankColors[rank % kRankColors.size()],
                         number);
}

}  // namespace

std::string FormatPlacement(const v1::GetPlacementResponse& placement, const TextStyle& style) {
  if (placement.layers().empty()) return "no layers\n";
  const int num_experts = placement.layers(0).rank_size();
  const int width =
      static_cast<int>(std::max(absl::StrCat("e", std::max(num_experts - 1, 0)).size(),
                                absl::StrCat(placement.num_ranks()).size())) +
      1;
  std::string text = "layer";
  for (int expert = 0; expert < num_experts; ++expert) {
    absl::StrAppendFormat(&text, " %*s", width, absl::StrCat("e", expert));
  }
  absl::StrAppend(&text, "\n");
  std::map<uint32_t, uint64_t> held;
  for (uint32_t rank = 0; rank < placement.num_ranks(); ++rank) held[rank] = 0;
  for (const v1::LayerPlacement& layer : placement.layers()) {
    absl::StrAppendFormat(&text, "%5d", layer.layer());
    for (const uint32_t rank : layer.rank()) {
      absl::StrAppend(&text, " ", Cell(rank, width, style));
      ++held[rank];
    }
    absl::StrAppend(&text, "\n");
  }
  absl::StrAppendFormat(&text, "\nexperts on each of %d ranks:", placement.num_ranks());
  for (const auto& [rank, experts] : held) {
    absl::StrAppend(&text, rank == 0 ? "" : ",", " ", experts);
  }
  return text + "\n";
}

}  // namespace moed
