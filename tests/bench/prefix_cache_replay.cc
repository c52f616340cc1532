// Hit rates of the prefix cache on a trace of prompts. Run by hand:
//   prefix_cache_replay ../shared/data/traces/mooncake_conversation_trace.jsonl
#include <cstdint>
#include <cstdio>
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
  std::printf("8 ranks, steps of 64 rows a rank every 130 ms; blocks found in the cache, %%\n");
  std::printf("%14s %14s %14s %14s %12s\n", "blocks a rank", "by prefix", "in turn", "one LRU",
              "preemptions");
  for (const int64_t blocks : {500, 1'000, 2'000, 4'000, 8'000, 16'000, 32'000}) {
    ReplayOptions options;
    options.num_ranks = 8;
    options.num_blocks_per_rank = blocks;
    options.step_seconds = 0.130;
    const ReplayReport by_prefix = ReplayTrace(*trace, options);
    options.route_by_prefix = false;
    const ReplayReport in_turn = ReplayTrace(*trace, options);
    std::printf("%14lld %14.1f %14.1f %14.1f %12lld\n", static_cast<long long>(blocks),
                100 * by_prefix.hit_rate(), 100 * in_turn.hit_rate(),
                Percent(CountLruHits(*trace, blocks * options.num_ranks), num_blocks),
                static_cast<long long>(by_prefix.num_preemptions));
  }
  return 0;
}

}  // namespace
}  // namespace moed

int main(int argc, char** argv) { return moed::Main(argc, argv); }
