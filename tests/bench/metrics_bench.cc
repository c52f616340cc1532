// What counting costs the output thread, and what a page costs: alone, and while tokens are
// counted.
#include <benchmark/benchmark.h>
#include <prometheus/histogram.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "server/metrics/atomic_histogram.h"
#include "server/metrics/catalog.h"
#include "server/metrics/metrics.h"
#include "tests/server/support/fake_engine.h"

namespace moed {
namespace {

using std::chrono::steady_clock;

constexpr int kNumRanks = 8;

// A daemon without ranks that has served for two minutes, so that every bucket of the window is in
// use.
struct Setup {
  Setup(int num_layers, int num_experts) {
    model->config.num_layers = num_layers;
    model->config.num_experts = num_experts;
    model->num_ranks = kNumRanks;
    model->ranks.resize(kNumRanks);
    model->placement = ExpertPlacement::Even(num_layers, num_experts, kNumRanks);
    const TimePoint start = steady_clock::now() - std::chrono::minutes(2);
    engine->SetRouting(RoutingLedger::Create({.num_ranks = kNumRanks,
                                              .num_layers = num_layers,
                                              .num_experts = num_experts,
                                              .experts_per_token = 2},
                                             start)
                           .value());
    results.resize(kNumRanks);
    for (RankResult& result : results) {
      result.expert_counts.assign(static_cast<size_t>(num_layers * num_experts), 3);
    }
    for (int second = 0; second < 120; ++second) AddStep(start + std::chrono::seconds(second));
    EngineStats stats;
    stats.free_kv_blocks.assign(kNumRanks, 10);
    stats.cached_kv_blocks.assign(kNumRanks, 5);
    stats.total_kv_blocks.assign(kNumRanks, 100);
    engine->SetStats(stats);
    lifecycle.Enter(LifecyclePhase::kReady);
    state.SetServing({model, engine});
  }
  void AddStep(TimePoint now) {
    benchmark::DoNotOptimize(const_cast<RoutingLedger&>(engine->routing()).Add(results, now));
  }

  std::vector<RankResult> results;
  std::shared_ptr<ServedModel> model = std::make_shared<ServedModel>();
  std::shared_ptr<FakeEngine> engine = std::make_shared<FakeEngine>();
  ServingState state;
  Lifecycle lifecycle;
  Metrics metrics{{.state = &state, .lifecycle = &lifecycle, .version = "0"}};
};

// Asks for both pages 20 times a second while it lives.
class Scraper {
 public:
  explicit Scraper(Metrics* metrics) {
    thread_ = std::thread([this, metrics] {
      for (auto next = steady_clock::now(); !stopped_; next += std::chrono::milliseconds(50)) {
        benchmark::DoNotOptimize(metrics->Page());
        benchmark::DoNotOptimize(metrics->ExpertsPage());
        std::this_thread::sleep_until(next);
      }
    });
  }
  ~Scraper() {
    stopped_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stopped_ = false;
  std::thread thread_;
};

void CountToken(Metrics* metrics) {
  metrics->OnInterToken(std::chrono::milliseconds(7), 1);
  metrics->OnTokens(1);
}

void PrometheusHistogram(benchmark::State& state) {
  prometheus::Histogram histogram({kInterTokenBounds.begin(), kInterTokenBounds.end()});
  for (auto _ : state) histogram.Observe(0.007);
}
BENCHMARK(PrometheusHistogram);

void OurHistogram(benchmark::State& state) {
  AtomicHistogram histogram(kInterTokenBounds);
  for (auto _ : state) histogram.Observe(0.007);
}
BENCHMARK(OurHistogram);

void Token(benchmark::State& state) {
  Setup setup(32, 8);
  for (auto _ : state) CountToken(&setup.metrics);
}
BENCHMARK(Token);

void TokenWhileScrapedAt20Hz(benchmark::State& state) {
  Setup setup(32, 8);
  Scraper scraper(&setup.metrics);
  for (auto _ : state) CountToken(&setup.metrics);
}
BENCHMARK(TokenWhileScrapedAt20Hz);

void RequestEnd(benchmark::State& state) {
  Setup setup(32, 8);
  RequestRecord record;
  record.method = "StreamGenerate";
  record.admitted = true;
  record.finish_reason = "stop";
  for (auto _ : state) setup.metrics.OnEnd(record);
}
BENCHMARK(RequestEnd);

void MainPage(benchmark::State& state) {
  Setup setup(32, 8);
  for (auto _ : state) benchmark::DoNotOptimize(setup.metrics.Page());
}
BENCHMARK(MainPage)->Unit(benchmark::kMicrosecond);

// Layers, experts.
void ExpertsPage(benchmark::State& state) {
  Setup setup(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)));
  size_t bytes = 0;
  for (auto _ : state) bytes = setup.metrics.ExpertsPage().size();
  state.counters["bytes"] = static_cast<double>(bytes);
}
BENCHMARK(ExpertsPage)
    ->Args({32, 8})
    ->Args({32, 64})
    ->Args({58, 256})
    ->Unit(benchmark::kMicrosecond);

// How long the ledger is locked: what the engine thread may wait for, at most.
void LedgerWindow(benchmark::State& state) {
  Setup setup(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)));
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        setup.engine->routing().Load(std::chrono::seconds(60), steady_clock::now()));
  }
}
BENCHMARK(LedgerWindow)->Args({32, 8})->Args({58, 256})->Unit(benchmark::kMicrosecond);

// A step that is counted while both pages are read 20 times a second.
void StepWhileScrapedAt20Hz(benchmark::State& state) {
  Setup setup(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)));
  Scraper scraper(&setup.metrics);
  double longest = 0;
  for (auto _ : state) {
    const auto begin = steady_clock::now();
    setup.AddStep(begin);
    longest = std::max(longest, std::chrono::duration<double>(steady_clock::now() - begin).count());
  }
  state.counters["longest_us"] = longest * 1e6;
}
BENCHMARK(StepWhileScrapedAt20Hz)->Args({32, 8})->Args({58, 256})->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace moed

BENCHMARK_MAIN();
