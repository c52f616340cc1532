#include "client/heat_map.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace moed {
namespace {

// From cold to hot at constant lightness steps, of the 256-colour palette.
constexpr int kRamp[] = {17, 18, 19, 25, 31, 37, 36, 35, 71, 107, 143, 179, 173, 167, 161, 196};
constexpr int kRampSteps = sizeof(kRamp) / sizeof(kRamp[0]);

// 1 is an even share; the ramp ends at the greatest that top-k routing allows.
int Shade(double over_mean, double greatest) {
  const double place = greatest > 0 ? over_mean / greatest : 0;
  return kRamp[std::clamp(static_cast<int>(std::lround(place * (kRampSteps - 1))), 0,
                          kRampSteps - 1)];
}

}  // namespace

std::string FormatHeatMap(const v1::GetExpertLoadResponse& load, bool color) {
  if (load.layers().empty()) return "no layers\n";
  const int num_experts = load.layers(0).tokens_size();
  size_t width = 6;
  for (const v1::LayerExpertLoad& layer : load.layers()) {
    for (const uint64_t tokens : layer.tokens())
      width = std::max(width, absl::StrCat(tokens).size());
  }
  const int cell = static_cast<int>(width);
  std::string text = absl::StrFormat("%5s", "layer");
  for (int expert = 0; expert < num_experts; ++expert) {
    absl::StrAppendFormat(&text, "  %*s", cell, absl::StrCat("e", expert));
  }
  absl::StrAppend(&text, "  max/mean   gini  entropy  dead  repeat1  repeat\n");
  const double greatest = static_cast<double>(num_experts) / std::max(1U, load.experts_per_token());
  for (const v1::LayerExpertLoad& layer : load.layers()) {
    absl::StrAppendFormat(&text, "%5d", layer.layer());
    for (int expert = 0; expert < num_experts; ++expert) {
      const std::string number = absl::StrFormat("%*d", cell, layer.tokens(expert));
      if (color) {
        absl::StrAppendFormat(&text, "  \033[97;48;5;%dm%s\033[0m",
                              Shade(layer.share(expert) * num_experts, greatest), number);
      } else {
        absl::StrAppend(&text, "  ", number);
      }
    }
    absl::StrAppendFormat(&text, "  %8.3f  %5.3f  %7.3f  %4d  %7.3f  %6.3f\n",
                          layer.max_over_mean(), layer.gini(), layer.entropy(),
                          layer.dead_experts(), layer.first_repetition(), layer.any_repetition());
  }
  absl::StrAppendFormat(
      &text,
      "%.0f s; repeat1 and repeat: consecutive tokens with the same first, any same choice; at "
      "random %.3f, %.3f\n",
      load.window_seconds(), load.random_first_repetition(), load.random_any_repetition());
  if (load.dropped_pairs() > 0) {
    absl::StrAppendFormat(&text, "%d pairs of token and expert dropped by the capacity limit\n",
                          load.dropped_pairs());
  }
  return text;
}

}  // namespace moed
