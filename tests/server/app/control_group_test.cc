#include "server/app/control_group.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/app/process_resources.h"

namespace moed {
namespace {

using ::testing::ElementsAre;

TEST(ControlGroupTest, AQuotaIsRoundedUpToProcessors) {
  EXPECT_EQ(ProcessorQuota("100000 100000\n"), 1);
  EXPECT_EQ(ProcessorQuota("150000 100000\n"), 2);
  EXPECT_EQ(ProcessorQuota("200000 100000"), 2);
  EXPECT_EQ(ProcessorQuota("1 100000\n"), 1);
  EXPECT_EQ(ProcessorQuota("9223372036854775807 1\n"), 2147483647);
}

TEST(ControlGroupTest, WhatSetsNoBoundIsNone) {
  for (const char* text : {"max 100000\n", "", "\n", "100000", "0 100000", "-1 100000", "100000 0",
                           "1 2 3", "99999999999999999999 100000"}) {
    EXPECT_EQ(ProcessorQuota(text), std::nullopt) << text;
  }
}

TEST(ControlGroupTest, EveryGroupUpToTheRootBounds) {
  EXPECT_THAT(ControlGroupDirectories("0::/a/b.slice/c\n", "/r"),
              ElementsAre("/r/a/b.slice/c", "/r/a/b.slice", "/r/a", "/r"));
  EXPECT_THAT(ControlGroupDirectories("12:cpu:/old\n0::/a\n", "/r"), ElementsAre("/r/a", "/r"));
}

TEST(ControlGroupTest, TheRootIsLeftWhereNoGroupIsNamed) {
  for (const char* text : {"", "0::/\n", "0::\n", "0::strange\n", "12:cpu:/old\n"}) {
    EXPECT_THAT(ControlGroupDirectories(text, "/r"), ElementsAre("/r")) << text;
  }
}

TEST(ProcessResourcesTest, ThereIsAProcessorWithinTheQuota) {
  EXPECT_GE(AvailableProcessors(), 1);
  EXPECT_LE(AvailableProcessors(), OwnProcessorQuota().value_or(1 << 20));
}

}  // namespace
}  // namespace moed
