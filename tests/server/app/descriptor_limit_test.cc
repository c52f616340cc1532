#include "server/app/descriptor_limit.h"

#include <sys/resource.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using ::testing::HasSubstr;

TEST(DescriptorLimitTest, IsRaisedToTheHardLimit) {
  rlimit found;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &found), 0);
  rlimit low = found;
  low.rlim_cur = 100;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  const DescriptorLimit limit = *RaiseDescriptorLimit();
  EXPECT_EQ(limit.before, 100);
  EXPECT_EQ(limit.after, static_cast<int64_t>(found.rlim_max));
  rlimit now;
  getrlimit(RLIMIT_NOFILE, &now);
  EXPECT_EQ(now.rlim_cur, found.rlim_max);
  setrlimit(RLIMIT_NOFILE, &found);
}

TEST(DescriptorLimitTest, WarnsWhereConnectionsCannotBeReached) {
  EXPECT_FALSE(DescriptorWarning({.before = 0, .after = 4608}, 4096).has_value());
  EXPECT_THAT(DescriptorWarning({.before = 0, .after = 4607}, 4096).value(),
              HasSubstr("--max-connections 4096 needs 4608 file descriptors"));
}

}  // namespace
}  // namespace moed
