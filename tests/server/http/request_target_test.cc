#include "server/http/request_target.h"

#include <gtest/gtest.h>

namespace moed {
namespace {

TEST(RequestTargetTest, PathAndQueryAreTakenApart) {
  const auto target = ParseRequestTarget("/api/status?window=60&x=%20");
  ASSERT_TRUE(target.has_value());
  EXPECT_EQ(target->path, "/api/status");
  EXPECT_EQ(target->query, "window=60&x=%20");
}

TEST(RequestTargetTest, ThePathIsDecodedOnce) {
  EXPECT_EQ(ParseRequestTarget("/a%2Fb%2541")->path, "/a/b%41");
  EXPECT_EQ(ParseRequestTarget("/%c3%a9+")->path, "/\xC3\xA9+");
}

TEST(RequestTargetTest, AnAbsoluteTargetLosesItsOrigin) {
  EXPECT_EQ(ParseRequestTarget("http://host:1/metrics?a")->path, "/metrics");
  EXPECT_EQ(ParseRequestTarget("HTTPS://host")->path, "/");
  EXPECT_EQ(ParseRequestTarget("http://host?a=1")->path, "/");
  EXPECT_EQ(ParseRequestTarget("http://host?a=1")->query, "a=1");
  EXPECT_EQ(ParseRequestTarget("*")->path, "*");
}

TEST(RequestTargetTest, OtherTargetsAreRefused) {
  for (const char* target : {"", "metrics", "host:80", "/%", "/%4", "/%zz", "/%00", "/%0a", "/%7f",
                             "/a#b", "ftp://host/", "?a", "//\x01"}) {
    EXPECT_FALSE(ParseRequestTarget(target).has_value()) << target;
  }
}

TEST(RequestTargetTest, DotsAreJustNames) {
  EXPECT_EQ(ParseRequestTarget("/../../etc/passwd")->path, "/../../etc/passwd");
}

}  // namespace
}  // namespace moed
