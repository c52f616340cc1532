#include "server/app/nearest_name.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace moed {
namespace {

std::string Nearest(const std::string& written) {
  return NearestName(written, {"kv-blocks", "kv-cache-size", "ranks", "listen", "admin-listen"});
}

TEST(NearestNameTest, FindsWhatWasMeant) {
  EXPECT_EQ(Nearest("kv_blocks"), "kv-blocks");
  EXPECT_EQ(Nearest("KV-Blocks"), "kv-blocks");
  EXPECT_EQ(Nearest("rnaks"), "ranks");
  EXPECT_EQ(Nearest("rank"), "ranks");
  EXPECT_EQ(Nearest("admin-lisen"), "admin-listen");
}

TEST(NearestNameTest, GuessesNothingFarAway) {
  EXPECT_EQ(Nearest("colour"), "");
  EXPECT_EQ(Nearest(""), "");
  EXPECT_EQ(Nearest(std::string(100000, 'k')), "");
}

}  // namespace
}  // namespace moed
