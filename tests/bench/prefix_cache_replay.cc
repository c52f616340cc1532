// Hit rates of the prefix cache on a trace of prompts. Run by hand:
//   prefix_cache_replay ../shared/data/traces/mooncake_conversation_trace.jsonl
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <vector>

#include "tests/runtime/schedule/trace_replay.h"

namespace moed {
namespace {

double Percent(int64_t part, int64_t whole) {
  return 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

int Main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr,
                 "usage: %s TRACE.jsonl (a line a request: timestamp, output_length, hash_ids)\n",
                 argv[0]);
    return 64;
  }
  const absl::StatusOr<std::vector<TraceRequest>> trace = ReadBlockTrace(argv[1]);
  if (!trace.ok()) {
    std::fprintf(stderr, "%s\n", trace.status().ToString().c_str());
    return 66;
  }
  int64_t num_blocks = 0;
  for (const TraceRequest& request : *trace)
    num_blocks += static_cast<int64_t>(request.blocks.size());
  std::printf("%zu prompts, %lld blocks, %.1f %% of them repeats\n", trace->size(),
              static_cast<long long>(num_blocks), Percent(CountRepeats(*trace), num_blocks));
  std::printf(
      "8 ranks, steps of 64 rows a rank every 130 ms; blocks found in the cache, %%, and\n"
      "seconds to the first token, mean and 99th percentile\n");
  std::printf("%14s %10s %24s %24s\n", "blocks a rank", "one LRU", "by prefix", "in turn");
  for (const int64_t blocks : {500, 1'000, 2'000, 4'000, 8'000, 16'000, 32'000}) {
    ReplayOptions options;
    options.num_ranks = 8;
    options.num_blocks_per_rank = blocks;
    options.step_seconds = 0.130;
    const int64_t bound = CountLruHits(*trace, blocks * options.num_ranks);
    std::printf("%14lld %10.1f", static_cast<long long>(blocks), Percent(bound, num_blocks));
    for (const bool by_prefix : {true, false}) {
      options.route_by_prefix = by_prefix;
      const ReplayReport report = ReplayTrace(*trace, options);
      const std::vector<double>& seconds = report.first_token_seconds;
      const double mean = std::accumulate(seconds.begin(), seconds.end(), 0.0) /
                          static_cast<double>(seconds.size());
      std::printf(" %10.1f %6.2f %6.2f", 100 * report.hit_rate(), mean,
                  seconds[seconds.size() * 99 / 100]);
    }
    std::printf("\n");
  }
  return 0;
}

}  // namespace
}  // namespace moed

int main(int argc, char** argv) { return moed::Main(argc, argv); }
