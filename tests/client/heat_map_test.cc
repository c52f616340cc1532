#include "client/heat_map.h"

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

TEST(HeatMapTest, ShowsCountsInColumnsThatFit) {
  EXPECT_EQ(FormatHeatMap(Load(), /*color=*/false),
            "layer        e0        e1  max/mean   gini  entropy  dead  repeat1  repeat\n"
            "    3  12345678         0     2.000  0.500    0.000     1    0.250   0.500\n"
            "60 s; repeat1 and repeat: consecutive tokens with the same first, any same choice; at "
            "random 0.125, 0.464\n");
}

TEST(HeatMapTest, TellsOfDroppedPairsWhereThereAreSome) {
  v1::GetExpertLoadResponse load = Load();
  EXPECT_THAT(FormatHeatMap(load, false), Not(HasSubstr("dropped")));
  load.set_dropped_pairs(17);
  EXPECT_THAT(FormatHeatMap(load, false), HasSubstr("17 pairs of token and expert dropped"));
}

TEST(HeatMapTest, ShadesFromColdToHot) {
  const std::string text = FormatHeatMap(Load(), /*color=*/true);
  EXPECT_THAT(text, HasSubstr("48;5;196m12345678"));
  EXPECT_THAT(text, HasSubstr("48;5;17m"));
}

TEST(HeatMapTest, HasNoColourUnlessAsked) {
  EXPECT_THAT(FormatHeatMap(Load(), false), Not(HasSubstr("\033")));
}

TEST(HeatMapTest, SurvivesAnEmptyAnswer) { EXPECT_EQ(FormatHeatMap({}, false), "no layers\n"); }

}  // namespace
}  // namespace moed
