#include "client/heat_map.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace moed {
namespace {

// From cold over even to hot, of the 256-colour palette; dark enough for white figures.
constexpr std::array<int, 11> kColors = {21, 20, 62, 61, 60, 239, 95, 131, 167, 160, 196};
constexpr std::array<const char*, 7> kGlyphs = {"▁", "▂", "▃", "▄", "▅", "▆", "▇"};
constexpr char kNoneGlyph[] = "·";
constexpr int kNoneColor = 16;
constexpr int kCompactSummaryColumns = 18;

// Of `steps`: the middle one for the mean, the last for `greatest` times the mean, the first for
// 1 / greatest of it. Twice as much and half as much are equally far from even; what is near to
// even is drawn apart, as that is where most experts are.
size_t Step(double over_mean, double greatest, size_t steps) {
  constexpr double kSpread = 0.6;
  const double distance = std::clamp(std::log(over_mean) / std::log(greatest), -1.0, 1.0);
  const double place = 0.5 + 0.5 * std::copysign(std::pow(std::abs(distance), kSpread), distance);
  return static_cast<size_t>(std::lround(place * static_cast<double>(steps - 1)));
}

class HeatMap {
 public:
  HeatMap(const v1::GetExpertLoadResponse& load, const TextStyle& style)
      : load_(load),
        style_(style),
        num_experts_(load.layers(0).tokens_size()),
        // What top-k routing allows; with room to see something where it allows little.
        greatest_(std::max(
            2.0, static_cast<double>(num_experts_) / std::max(1U, load.experts_per_token()))) {}

  std::string Format() {
    ChooseCells();
    std::string text = Title();
    absl::StrAppend(&text, Header());
    for (const v1::LayerExpertLoad& layer : load_.layers()) absl::StrAppend(&text, Row(layer));
    absl::StrAppend(&text, Legend());
    return text;
  }

 private:
  // With counts where they fit, else one or two columns for each expert or for several.
  void ChooseCells() {
    size_t width = 4;
    for (const v1::LayerExpertLoad& layer : load_.layers()) {
      for (const uint64_t tokens : layer.tokens()) {
        width = std::max(width, absl::StrCat(tokens).size());
      }
    }
    count_width_ = static_cast<int>(width);
    constexpr int kSummaryColumns = 50;
    if (style_.columns == 0 ||
        5 + num_experts_ * (count_width_ + 4) + kSummaryColumns <= style_.columns) {
      return;
    }
    compact_ = true;
    const int room = std::max(8, style_.columns - 7 - kCompactSummaryColumns);
    cell_width_ = 2 * num_experts_ <= room ? 2 : 1;
    experts_per_cell_ = (num_experts_ + room - 1) / room;
  }

  std::string Title() const {
    uint64_t pairs = 0;
    for (const uint64_t tokens : load_.layers(0).tokens()) pairs += tokens;
    return absl::StrFormat("%d layers of %d experts, %d for each token; %d tokens in %.0f s\n",
                           load_.layers_size(), num_experts_, load_.experts_per_token(),
                           pairs / std::max(1U, load_.experts_per_token()), load_.window_seconds());
  }

  std::string Header() const {
    std::string text = "layer";
    if (compact_) {
      const int cells = (num_experts_ + experts_per_cell_ - 1) / experts_per_cell_;
      absl::StrAppendFormat(&text, "  %-*s  max/mean  dead\n", cells * cell_width_, "experts");
      return text;
    }
    for (int expert = 0; expert < num_experts_; ++expert) {
      absl::StrAppendFormat(&text, "  %*s", count_width_ + 2, absl::StrCat("e", expert));
    }
    return text + "  max/mean   gini  entropy  dead  repeat1  repeat\n";
  }

  std::string Row(const v1::LayerExpertLoad& layer) const {
    std::string text = absl::StrFormat("%5d", layer.layer());
    if (compact_) {
      absl::StrAppend(&text, "  ");
      for (int first = 0; first < num_experts_; first += experts_per_cell_) {
        absl::StrAppend(&text, Shaded(BusiestFrom(layer, first), std::string(cell_width_, ' ')));
      }
      absl::StrAppendFormat(&text, "  %8.3f  %4d\n", layer.max_over_mean(), layer.dead_experts());
      return text;
    }
    for (int expert = 0; expert < num_experts_ && expert < layer.tokens_size(); ++expert) {
      const std::string count = absl::StrFormat("%*d", count_width_, layer.tokens(expert));
      absl::StrAppend(&text, "  ", Shaded(OverMean(layer, expert), absl::StrCat(" ", count, " ")));
    }
    absl::StrAppendFormat(&text, "  %8.3f  %5.3f  %7.3f  %4d  %7.3f  %6.3f\n",
                          layer.max_over_mean(), layer.gini(), layer.entropy(),
                          layer.dead_experts(), layer.first_repetition(), layer.any_repetition());
    return text;
  }

  double OverMean(const v1::LayerExpertLoad& layer, int expert) const {
    return expert < layer.share_size() ? layer.share(expert) * num_experts_ : 0;
  }

  double BusiestFrom(const v1::LayerExpertLoad& layer, int first) const {
    double busiest = 0;
    for (int i = first; i < std::min(first + experts_per_cell_, num_experts_); ++i) {
      busiest = std::max(busiest, OverMean(layer, i));
    }
    return busiest;
  }

  // `text`, which ends in a blank, with the shade behind it or with a glyph before it.
  std::string Shaded(double over_mean, const std::string& text) const {
    if (style_.color) {
      const int color =
          over_mean > 0 ? kColors[Step(over_mean, greatest_, kColors.size())] : kNoneColor;
      return absl::StrFormat("\033[97;48;5;%dm%s\033[0m", color, text);
    }
    const char* glyph =
        over_mean > 0 ? kGlyphs[Step(over_mean, greatest_, kGlyphs.size())] : kNoneGlyph;
    return absl::StrCat(glyph, text.substr(0, text.size() - 1));
  }

  std::string Legend() const {
    std::string text = "\n  ";
    if (style_.color) {
      for (const int color : kColors) absl::StrAppendFormat(&text, "\033[48;5;%dm  \033[0m", color);
    } else {
      for (const char* glyph : kGlyphs) absl::StrAppend(&text, glyph);
    }
    absl::StrAppendFormat(&text, "  1/%.3g of the mean, the mean, %.3g times the mean", greatest_,
                          greatest_);
    if (!style_.color) absl::StrAppend(&text, "; ", kNoneGlyph, " none");
    if (experts_per_cell_ > 1) {
      absl::StrAppendFormat(&text, "; a cell is %d experts, by the busiest", experts_per_cell_);
    }
    absl::StrAppend(&text, "\n");
    if (!compact_) {
      absl::StrAppendFormat(&text,
                            "  repeat1, repeat: consecutive tokens with the same first, any same "
                            "choice; at random %.3f, %.3f\n",
                            load_.random_first_repetition(), load_.random_any_repetition());
    }
    if (load_.dropped_pairs() > 0) {
      absl::StrAppendFormat(&text, "  %d pairs of token and expert dropped by the capacity limit\n",
                            load_.dropped_pairs());
    }
    return text;
  }

  const v1::GetExpertLoadResponse& load_;
  const TextStyle& style_;
  const int num_experts_;
  const double greatest_;
  bool compact_ = false;
  int count_width_ = 0;
  int cell_width_ = 1;
  int experts_per_cell_ = 1;
};

}  // namespace

std::string FormatHeatMap(const v1::GetExpertLoadResponse& load, const TextStyle& style) {
  if (load.layers().empty() || load.layers(0).tokens().empty()) return "no layers\n";
  return HeatMap(load, style).Format();
}

}  // namespace moed
