#include "client/heat_map.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::GetExpertLoadResponse Load() {
  v1::GetExpertLoadResponse load;
  load.set_experts_per_token(1);
  v1::LayerExpertLoad* layer = load.add_layers();
  layer->set_layer(3);
  for (const uint64_t tokens : {12345678U, 0U}) layer->add_tokens(tokens);
  layer->add_share(1);
  layer->add_share(0);
  layer->set_max_over_mean(2);
  layer->set_gini(0.5);
  layer->set_entropy(0);
  layer->set_dead_experts(1);
  layer->set_first_repetition(0.25);
  layer->set_any_repetition(0.5);
  load.set_window_seconds(59.7);
  load.set_random_first_repetition(0.125);
  load.set_random_any_repetition(0.464);
  return load;
}

// A layer whose experts have these multiples of an even share; two for each token.
v1::GetExpertLoadResponse Shares(const std::vector<double>& over_mean) {
  v1::GetExpertLoadResponse load;
  load.set_experts_per_token(2);
  v1::LayerExpertLoad* layer = load.add_layers();
  for (const double times : over_mean) {
    layer->add_tokens(static_cast<uint64_t>(100 * times));
    layer->add_share(times / static_cast<double>(over_mean.size()));
  }
  return load;
}

std::string Line(const std::string& text, size_t number) {
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  return number < lines.size() ? lines[number] : "";
}

TEST(HeatMapTest, ShowsCountsInColumnsThatFit) {
  EXPECT_EQ(FormatHeatMap(Load(), {}),
            "1 layers of 2 experts, 1 for each token; 12345678 tokens in 60 s\n"
            "layer          e0          e1  max/mean   gini  entropy  dead  repeat1  repeat\n"
            "    3  ▇ 12345678  ·        0     2.000  0.500    0.000     1    0.250   0.500\n"
            "\n"
            "  ▁▂▃▄▅▆▇  1/2 of the mean, the mean, 2 times the mean; · none\n"
            "  repeat1, repeat: consecutive tokens with the same first, any same choice; at random "
            "0.125, 0.464\n");
}

TEST(HeatMapTest, TellsOfDroppedPairsWhereThereAreSome) {
  v1::GetExpertLoadResponse load = Load();
  EXPECT_THAT(FormatHeatMap(load, {}), Not(HasSubstr("dropped")));
  load.set_dropped_pairs(17);
  EXPECT_THAT(FormatHeatMap(load, {}), HasSubstr("17 pairs of token and expert dropped"));
}

TEST(HeatMapTest, TheMeanIsInTheMiddleAndTwiceIsAsFarFromItAsHalf) {
  // Eight experts with two for each token: at most four times the mean.
  const std::string row = Line(FormatHeatMap(Shares({0.01, 0.25, 0.5, 1, 2, 4, 0, 0.24}), {}), 2);
  std::string glyphs;
  for (const absl::string_view word : absl::StrSplit(row, ' ', absl::SkipEmpty())) {
    if (static_cast<unsigned char>(word[0]) >= 0x80) glyphs += std::string(word);
  }
  EXPECT_EQ(glyphs, "▁▁▂▄▆▇·▁");
}

TEST(HeatMapTest, ShadesFromColdOverEvenToHot) {
  const std::string text = FormatHeatMap(Shares({0.25, 1, 4, 0, 1, 1, 1, 1}), {.color = true});
  for (const char* cell :
       {"48;5;21m   25 ", "48;5;239m  100 ", "48;5;196m  400 ", "48;5;16m    0 "}) {
    EXPECT_THAT(text, HasSubstr(cell));
  }
}

TEST(HeatMapTest, HasNoColourUnlessAsked) {
  EXPECT_THAT(FormatHeatMap(Load(), {}), Not(HasSubstr("\033")));
}

TEST(HeatMapTest, LeavesTheCountsOutWhereTheyDoNotFit) {
  const v1::GetExpertLoadResponse load = Shares(std::vector<double>(16, 1.0));
  EXPECT_THAT(Line(FormatHeatMap(load, {.columns = 200}), 2), HasSubstr("100"));
  const std::string text = FormatHeatMap(load, {.columns = 80});
  EXPECT_EQ(Line(text, 1), "layer  experts                           max/mean  dead");
  EXPECT_EQ(Line(text, 2), "    0  ▄ ▄ ▄ ▄ ▄ ▄ ▄ ▄ ▄ ▄ ▄ ▄ ▄ ▄ ▄ ▄      0.000     0");
}

TEST(HeatMapTest, JoinsExpertsWhereEvenTheShadesDoNotFit) {
  std::vector<double> over_mean(256, 0.5);
  over_mean[255] = 128;
  const std::string text = FormatHeatMap(Shares(over_mean), {.columns = 80});
  // 55 columns for 256 experts: five in a cell, the last cell by its hot one.
  EXPECT_THAT(Line(text, 2), HasSubstr("▃▃▇  "));
  EXPECT_THAT(text, HasSubstr("a cell is 5 experts, by the busiest"));
  EXPECT_THAT(Line(FormatHeatMap(Shares(over_mean), {.color = true, .columns = 80}), 2),
              HasSubstr("48;5;196m \033"));
}

TEST(HeatMapTest, SurvivesAnEmptyOrUnevenAnswer) {
  EXPECT_EQ(FormatHeatMap({}, {}), "no layers\n");
  v1::GetExpertLoadResponse load = Shares({1, 1, 1, 1});
  load.mutable_layers(0)->mutable_share()->Truncate(1);
  load.add_layers();
  EXPECT_THAT(FormatHeatMap(load, {}), HasSubstr("▄  100"));
  EXPECT_THAT(FormatHeatMap(load, {.columns = 20}), HasSubstr("    0  "));
}

}  // namespace
}  // namespace moed
