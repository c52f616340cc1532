#include "client/ranks_table.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace moed {
namespace {

constexpr char kGreen[] = "32";
constexpr char kYellow[] = "33";
constexpr char kCyan[] = "36";
constexpr char kRed[] = "1;31";
constexpr int kBarWidth = 16;

// How a rank's time was spent, of `whole` seconds.
struct Work {
  double compute = 0;
  double wait = 0;
  bool known = false;
};

Work WorkOf(const v1::RankStatus& rank, const EarlierRanks& earlier) {
  double compute = rank.compute_seconds();
  double wait = rank.collective_wait_seconds();
  double whole = compute + wait;
  if (earlier.ranks != nullptr) {
    for (const v1::RankStatus& before : earlier.ranks->ranks()) {
      if (before.rank() != rank.rank()) continue;
      compute -= before.compute_seconds();
      wait -= before.collective_wait_seconds();
    }
    // Steps are counted when they have ended: a long one may have begun before.
    whole = std::max(earlier.seconds, compute + wait);
  }
  if (whole <= 0) return {};
  return {.compute = compute / whole, .wait = wait / whole, .known = true};
}

std::string WorkCell(const Work& work, const TextStyle& style) {
  const BarPart parts[] = {{work.compute, "█", kCyan}, {work.wait, "▒", kYellow}};
  const std::string figures =
      work.known ? absl::StrFormat("%3.0f %%  %3.0f %%", 100 * work.compute, 100 * work.wait)
                 : absl::StrFormat("%5s  %5s", "-", "-");
  return absl::StrCat(Bar(parts, kBarWidth, style), " ", figures);
}

std::string KvCell(const v1::RankStatus& rank, const TextStyle& style) {
  const auto total = static_cast<double>(std::max<uint64_t>(rank.total_kv_blocks(), 1));
  const uint64_t free = std::min(rank.free_kv_blocks(), rank.total_kv_blocks());
  const double used = static_cast<double>(rank.total_kv_blocks() - free) / total;
  const double cached = static_cast<double>(std::min(rank.cached_kv_blocks(), free)) / total;
  const BarPart parts[] = {{used, "█",
                            used > 0.95  ? kRed
                            : used > 0.8 ? kYellow
                                         : kGreen},
                           {cached, "▒", "90"}};
  return absl::StrFormat("%s %3.0f %%", Bar(parts, kBarWidth, style), 100 * used);
}

uint64_t Memory(const v1::RankStatus& rank) {
  uint64_t bytes = 0;
  for (const v1::MemoryUse& use : rank.memory()) bytes += use.bytes();
  return bytes;
}

std::string LoadingTable(const v1::ListRanksResponse& ranks, const TextStyle& style) {
  std::string text = "rank  progress\n";
  for (const v1::RankStatus& rank : ranks.ranks()) {
    const BarPart done[] = {{rank.load_fraction(), "█", kYellow}};
    absl::StrAppendFormat(&text, "%4d  %s %3.0f %%  %s\n", rank.rank(), Bar(done, 32, style),
                          100 * rank.load_fraction(), rank.load_phase());
  }
  return text;
}

}  // namespace

std::string FormatPhase(const v1::ListRanksResponse& ranks) {
  std::string phase = v1::DaemonPhase_Name(ranks.phase());
  phase = absl::AsciiStrToLower(absl::StripPrefix(phase, "DAEMON_PHASE_"));
  if (ranks.phase() == v1::DAEMON_PHASE_LOADING) {
    return absl::StrFormat("%s, %.0f %%", phase, 100 * ranks.load_fraction());
  }
  return absl::StrFormat("%s; %d running, %d waiting", phase, ranks.running(), ranks.waiting());
}

std::string FormatRanks(const v1::ListRanksResponse& ranks, const EarlierRanks& earlier,
                        const TextStyle& style) {
  std::string text = FormatPhase(ranks);
  if (ranks.phase() == v1::DAEMON_PHASE_LOADING) {
    return absl::StrCat(text, "\n", LoadingTable(ranks, style));
  }
  if (ranks.ranks_size() > 0) {
    absl::StrAppendFormat(&text, "; %d rank%s on %s", ranks.ranks_size(),
                          ranks.ranks_size() == 1 ? "" : "s", ranks.ranks(0).device());
  }
  absl::StrAppendFormat(&text, "\nrank  state  %-22s  %-16s %5s  %5s  %6s  %6s  %10s  %10s  %10s\n",
                        "KV cache", earlier.ranks != nullptr ? "now" : "since the start", "comp",
                        "wait", "steps", "pairs", "sent", "received", "memory");
  for (const v1::RankStatus& rank : ranks.ranks()) {
    const std::string state =
        rank.up() ? Colored("up   ", kGreen, style) : Colored("down ", kRed, style);
    absl::StrAppendFormat(&text, "%4d  %s  %s  %s  %6s  %6s  %10s  %10s  %10s\n", rank.rank(),
                          state, KvCell(rank, style), WorkCell(WorkOf(rank, earlier), style),
                          ShortCount(rank.steps()), ShortCount(rank.routed_pairs()),
                          ShortBytes(rank.exchange_bytes_sent()),
                          ShortBytes(rank.exchange_bytes_received()), ShortBytes(Memory(rank)));
  }
  absl::StrAppend(&text, "\n  KV cache: ", Colored("█", kGreen, style), " held by requests, ",
                  Colored("▒", "90", style), " kept for beginnings that come again, ",
                  Colored("░", "90", style), " free\n  time: ", Colored("█", kCyan, style),
                  " computing, ", Colored("▒", kYellow, style), " waiting for other ranks",
                  earlier.ranks != nullptr ? ", " : "",
                  earlier.ranks != nullptr ? Colored("░", "90", style) : "",
                  earlier.ranks != nullptr ? " without work\n" : "\n");
  return text;
}

}  // namespace moed
