#include "client/placement_text.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using ::testing::HasSubstr;

v1::GetPlacementResponse Placement() {
  v1::GetPlacementResponse placement;
  placement.set_num_ranks(3);
  for (uint32_t layer = 0; layer < 2; ++layer) {
    v1::LayerPlacement* row = placement.add_layers();
    row->set_layer(layer);
    row->add_rank(0);
    row->add_rank(1);
  }
  return placement;
}

TEST(PlacementTextTest, ShowsTheRankOfEachExpertAndWhatEachRankHolds) {
  EXPECT_EQ(FormatPlacement(Placement(), {}),
            "layer  e0  e1\n"
            "    0   0   1\n"
            "    1   0   1\n"
            "\n"
            "experts on each of 3 ranks: 2, 2, 0\n");
}

TEST(PlacementTextTest, EachRankHasAColour) {
  const std::string text = FormatPlacement(Placement(), {.color = true});
  EXPECT_THAT(text, HasSubstr("\033[97;48;5;25m  0\033[0m"));
  EXPECT_THAT(text, HasSubstr("\033[97;48;5;130m  1\033[0m"));
}

TEST(PlacementTextTest, SurvivesAnEmptyAnswer) {
  EXPECT_EQ(FormatPlacement({}, {}), "no layers\n");
}

}  // namespace
}  // namespace moed
