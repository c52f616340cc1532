#include "client/ranks_table.h"

#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Two ranks: the first holds half of its cache, an eighth more is kept, and computes three quarters
// of its time.
v1::ListRanksResponse Ranks() {
  v1::ListRanksResponse ranks;
  ranks.set_phase(v1::DAEMON_PHASE_READY);
  ranks.set_load_fraction(1);
  ranks.set_running(3);
  ranks.set_waiting(1);
  for (uint32_t i = 0; i < 2; ++i) {
    v1::RankStatus* rank = ranks.add_ranks();
    rank->set_rank(i);
    rank->set_up(true);
    rank->set_device("CPU");
    rank->set_total_kv_blocks(80);
    rank->set_free_kv_blocks(80);
  }
  v1::RankStatus* first = ranks.mutable_ranks(0);
  first->set_free_kv_blocks(40);
  first->set_cached_kv_blocks(10);
  first->set_compute_seconds(3);
  first->set_collective_wait_seconds(1);
  first->set_steps(12345);
  first->set_routed_pairs(7);
  first->set_exchange_bytes_sent(2048);
  v1::MemoryUse* memory = first->add_memory();
  memory->set_kind("weights");
  memory->set_bytes(3 << 20);
  *first->add_memory() = *memory;
  return ranks;
}

std::vector<std::string> Lines(const std::string& text) { return absl::StrSplit(text, '\n'); }

TEST(RanksTableTest, HasBarsForCacheAndTime) {
  const std::vector<std::string> lines = Lines(FormatRanks(Ranks(), {}, {}));
  ASSERT_GE(lines.size(), 4U);
  EXPECT_EQ(lines[0], "ready; 3 running, 1 waiting; 2 ranks on CPU");
  EXPECT_EQ(lines[1],
            "rank  state  KV cache                since the start   comp   wait   steps   pairs    "
            "    sent    received      memory");
  EXPECT_EQ(lines[2],
            "   0  up     ████████▒▒░░░░░░  50 %  ████████████▒▒▒▒  75 %   25 %   12.3k       7    "
            "2.00 KiB         0 B    6.00 MiB");
  EXPECT_EQ(lines[3],
            "   1  up     ░░░░░░░░░░░░░░░░   0 %  ░░░░░░░░░░░░░░░░     -      -       0       0    "
            "     0 B         0 B         0 B");
}

TEST(RanksTableTest, TellsWhatTheRanksDidSinceAnEarlierAnswer) {
  const v1::ListRanksResponse before = Ranks();
  v1::ListRanksResponse now = Ranks();
  now.mutable_ranks(0)->set_compute_seconds(4);
  const std::string text = FormatRanks(now, {.ranks = &before, .seconds = 2}, {});
  EXPECT_THAT(text, HasSubstr("  now  "));
  EXPECT_THAT(Lines(text)[2], HasSubstr("████████░░░░░░░░  50 %    0 %"));
  // Nothing was done at all.
  EXPECT_THAT(Lines(FormatRanks(now, {.ranks = &now, .seconds = 2}, {}))[2],
              HasSubstr("░░░░░░░░░░░░░░░░   0 %    0 %"));
  // A step longer than the time between the two.
  EXPECT_THAT(Lines(FormatRanks(now, {.ranks = &before, .seconds = 0.1}, {}))[2],
              HasSubstr("████████████████ 100 %    0 %"));
}

TEST(RanksTableTest, TellsHowFarLoadingIs) {
  v1::ListRanksResponse ranks;
  ranks.set_phase(v1::DAEMON_PHASE_LOADING);
  ranks.set_load_fraction(0.4);
  v1::RankStatus* rank = ranks.add_ranks();
  rank->set_load_phase("expert weights");
  rank->set_load_fraction(0.5);
  EXPECT_EQ(FormatRanks(ranks, {}, {}),
            "loading, 40 %\n"
            "rank  progress\n"
            "   0  ████████████████░░░░░░░░░░░░░░░░  50 %  expert weights\n");
}

TEST(RanksTableTest, MarksARankThatIsDown) {
  v1::ListRanksResponse ranks = Ranks();
  ranks.mutable_ranks(1)->set_up(false);
  ranks.set_phase(v1::DAEMON_PHASE_FAILED);
  EXPECT_THAT(FormatRanks(ranks, {}, {}), HasSubstr("   1  down   "));
  EXPECT_THAT(FormatRanks(ranks, {}, {}), Not(HasSubstr("\033")));
  EXPECT_THAT(FormatRanks(ranks, {}, {.color = true}), HasSubstr("\033[1;31mdown "));
  EXPECT_EQ(FormatPhase(ranks), "failed; 3 running, 1 waiting");
}

}  // namespace
}  // namespace moed
