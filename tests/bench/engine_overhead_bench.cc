// What the engine costs beside the model: decode steps of the real scheduler, engine loop, routing
// ledger, output thread, tokenizer and outboxes over ranks that compute nothing. Run by hand:
//   engine_overhead_bench models/demo/tokenizer.model [runs]
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "runtime/engine/engine_impl.h"
#include "runtime/output/outbox.h"
#include "runtime/tokenizer/tokenizer.h"
#include "tests/bench/stopwatch_worker_group.h"

namespace moed {
namespace {

struct Workload {
  std::string name;
  int32_t num_sequences = 1;
  int num_ranks = 1;
  bool has_rank_threads = true;
  int32_t num_tokens = 1500;
  std::chrono::microseconds step_time{0};
  bool text = true;
  int num_stop_strings = 0;
  int32_t num_logprobs = -1;
};

double Median(std::vector<double> values) {
  MOED_CHECK(!values.empty(), "nothing was measured");
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

WorkerGroupInfo InfoFor(const Workload& load, const Tokenizer& tokenizer) {
  WorkerGroupInfo info;
  info.num_ranks = load.num_ranks;
  info.max_sequences_per_rank = (load.num_sequences + load.num_ranks - 1) / load.num_ranks;
  info.max_rows_per_step = std::max(64, info.max_sequences_per_rank);
  info.max_gather_rows = info.max_rows_per_step;
  info.block_size = 16;
  info.num_kv_blocks_per_rank =
      int64_t{info.max_sequences_per_rank} * (load.num_tokens / info.block_size + 4);
  info.num_layers = 32;  // Mixtral 8x7B's
  info.num_experts = 8;
  info.experts_per_token = 2;
  info.max_experts_per_token = 2;
  info.vocab = tokenizer.vocab_size();
  return info;
}

GenerationRequest RequestFor(const Workload& load, int32_t index) {
  GenerationRequest request;
  request.request_id = absl::StrCat(index);
  // Of different lengths, so that not all fill their blocks in the same step.
  for (int32_t i = 0; i < 8 + index % 16; ++i) {
    request.prompt_token_ids.push_back(300 + (index * 7 + i) % 1000);
  }
  request.stopping.max_tokens = load.num_tokens;
  for (int i = 0; i < load.num_stop_strings; ++i) {
    request.stopping.stop_strings.push_back(absl::StrCat("\n\nnever", i));
  }
  request.response.text = load.text;
  request.response.num_logprobs = load.num_logprobs;
  return request;
}

// A sink whose writer takes everything out as soon as it is told.
std::shared_ptr<Outbox> MakeOutbox(const std::function<void()>& on_end) {
  auto self = std::make_shared<std::weak_ptr<Outbox>>();
  auto box = std::make_shared<Outbox>(size_t{1} << 20, [self, on_end] {
    const std::shared_ptr<Outbox> held = self->lock();
    while (const std::optional<OutboxMessage> message = held->Pop()) {
      if (message->end.has_value()) on_end();
    }
  });
  *self = box;
  return box;
}

struct EngineRun {
  std::vector<StepTimes> steps;  // those in which every sequence drew a token
  double output_cpu = 0;         // of the output thread, microseconds per step, all steps
};

EngineRun RunEngine(const Workload& load, const Tokenizer& tokenizer) {
  const auto stopwatch = std::make_shared<EngineStopwatch>();
  StopwatchGroupOptions group_options;
  group_options.info = InfoFor(load, tokenizer);
  group_options.num_sequences = load.num_sequences;
  group_options.step_time = load.step_time;
  group_options.has_threads = load.has_rank_threads;
  group_options.num_logprobs = load.num_logprobs;
  EngineOptions options;
  options.now = [stopwatch] { return stopwatch->Now(); };
  auto engine =
      MakeEngine(options, std::make_unique<StopwatchWorkerGroup>(group_options, stopwatch),
                 group_options.info, &tokenizer);
  MOED_CHECK(engine.ok(), "the engine does not start");
  Mutex mutex;
  CondVar ended;
  int32_t num_live = load.num_sequences;
  double output_cpu = 0;
  for (int32_t i = 0; i < load.num_sequences; ++i) {
    const auto box = MakeOutbox([&] {
      MutexLock lock(mutex);
      output_cpu = ThreadCpuMicroseconds();
      --num_live;
      ended.NotifyOne();
    });
    MOED_CHECK((*engine)->Submit(RequestFor(load, i), box).ok(), "a request is refused");
  }
  {
    MutexLock lock(mutex);
    while (num_live > 0) ended.Wait(mutex);
  }
  engine->reset();
  return {stopwatch->steps(), output_cpu / static_cast<double>(stopwatch->num_launches())};
}

// Each figure's median over the steps, and of those the median over the runs.
struct EngineFigures {
  StepTimes step;
  double total = 0;
  double gap = 0;
  double output_cpu = 0;
};

EngineFigures MeasureEngine(const Workload& load, const Tokenizer& tokenizer, int num_runs) {
  std::vector<EngineRun> runs;
  for (int run = 0; run < num_runs; ++run) {
    runs.push_back(RunEngine(load, tokenizer));
    MOED_CHECK(runs.back().steps.size() >= 100, "too few steps in which all sequences decode");
  }
  const auto median = [&runs](const std::function<double(const StepTimes&)>& field) {
    std::vector<double> of_runs;
    for (const EngineRun& run : runs) {
      std::vector<double> values;
      for (const StepTimes& step : run.steps) values.push_back(field(step));
      of_runs.push_back(Median(std::move(values)));
    }
    return Median(std::move(of_runs));
  };
  EngineFigures figures;
  StepTimes& step = figures.step;
  for (double StepTimes::*field :
       {&StepTimes::wait_for_output, &StepTimes::plan, &StepTimes::wait_for_ranks,
        &StepTimes::commit, &StepTimes::launch, &StepTimes::busy_ranks, &StepTimes::cpu}) {
    step.*field = median([field](const StepTimes& s) { return s.*field; });
  }
  figures.total = median([](const StepTimes& s) { return s.total(); });
  figures.gap = median([](const StepTimes& s) { return s.gap(); });
  std::vector<double> output_cpu;
  for (const EngineRun& run : runs) output_cpu.push_back(run.output_cpu);
  figures.output_cpu = Median(std::move(output_cpu));
  return figures;
}

void PrintHeader(const std::string& what, const std::vector<std::string>& columns) {
  std::printf("\n%s; medians per step in microseconds\n%-30s", what.c_str(), "");
  for (const std::string& column : columns) std::printf(" %10s", column.c_str());
  std::printf("\n");
}

void PrintRow(const std::string& name, const std::vector<double>& values) {
  std::printf("%-30s", name.c_str());
  for (const double value : values) std::printf(" %10.1f", value);
  std::printf("\n");
  std::fflush(stdout);
}

void PrintEngine(const Workload& load, const Tokenizer& tokenizer, int num_runs) {
  const EngineFigures figures = MeasureEngine(load, tokenizer, num_runs);
  const StepTimes& step = figures.step;
  PrintRow(load.name, {figures.total, step.wait_for_output, step.plan, step.wait_for_ranks,
                       step.commit, step.launch, step.cpu, figures.output_cpu});
}

void PrintGap(const Workload& load, const Tokenizer& tokenizer, int num_runs) {
  const EngineFigures figures = MeasureEngine(load, tokenizer, num_runs);
  const StepTimes& step = figures.step;
  PrintRow(load.name, {figures.gap, figures.total, step.busy_ranks, step.wait_for_output, step.plan,
                       step.commit, step.cpu, figures.output_cpu});
}

// The parts alone, on one thread and without locks that anybody else wants.
struct PartTimes {
  double plan = 0;
  double commit = 0;
  double ledger = 0;
  double output = 0;
};

PartTimes RunParts(const Workload& load, const Tokenizer& tokenizer) {
  StopwatchGroupOptions group_options;
  group_options.info = InfoFor(load, tokenizer);
  group_options.has_threads = false;
  group_options.num_logprobs = load.num_logprobs;
  const WorkerGroupInfo& info = group_options.info;
  StopwatchWorkerGroup group(group_options, std::make_shared<EngineStopwatch>());
  SchedulerOptions options;
  options.num_ranks = info.num_ranks;
  options.max_sequences_per_rank = info.max_sequences_per_rank;
  options.token_budget = info.max_rows_per_step;
  options.block_size = info.block_size;
  options.num_blocks_per_rank = info.num_kv_blocks_per_rank;
  options.experts_per_token = info.experts_per_token;
  Scheduler scheduler(options);
  const BenchClock::time_point start = BenchClock::now();
  auto ledger = RoutingLedger::Create({.num_ranks = info.num_ranks,
                                       .num_layers = info.num_layers,
                                       .num_experts = info.num_experts,
                                       .experts_per_token = info.experts_per_token},
                                      start);
  MOED_CHECK(ledger.ok(), "no ledger");
  OutputProcessor processor([](const Closing&) {});
  for (int32_t i = 0; i < load.num_sequences; ++i) {
    const GenerationRequest request = RequestFor(load, i);
    auto id = scheduler.Submit(request, start);
    MOED_CHECK(id.ok(), "a request is refused");
    processor.Open(
        {*id, std::make_unique<RequestOutput>(request, &tokenizer), MakeOutbox([] {}), start});
  }
  std::vector<double> plans, commits, ledgers, outputs;
  while (scheduler.HasWork()) {
    const BenchClock::time_point begin = BenchClock::now();
    StepPlan plan = scheduler.Plan(begin);
    const BenchClock::time_point planned = BenchClock::now();
    const bool is_steady = plan.num_rows == load.num_sequences;
    MOED_CHECK(group.Launch(std::move(plan.batches)).ok(), "no launch");
    const auto results = group.Await();
    const BenchClock::time_point computed = BenchClock::now();
    MOED_CHECK((*ledger)->Add(*results, computed).ok(), "the ledger refuses");
    const BenchClock::time_point counted = BenchClock::now();
    const absl::StatusOr<StepOutput> output = scheduler.Commit(*results, counted);
    MOED_CHECK(output.ok(), "the scheduler refuses");
    const BenchClock::time_point committed = BenchClock::now();
    for (const SequenceToken& token : output->tokens) processor.Token(token);
    const BenchClock::time_point told = BenchClock::now();
    if (!is_steady) continue;
    plans.push_back(MicrosecondsBetween(begin, planned));
    ledgers.push_back(MicrosecondsBetween(computed, counted));
    commits.push_back(MicrosecondsBetween(counted, committed));
    outputs.push_back(MicrosecondsBetween(committed, told));
  }
  return {Median(plans), Median(commits), Median(ledgers), Median(outputs)};
}

void PrintParts(const Workload& load, const Tokenizer& tokenizer, int num_runs) {
  std::vector<double> plans, commits, ledgers, outputs;
  for (int run = 0; run < num_runs; ++run) {
    const PartTimes parts = RunParts(load, tokenizer);
    plans.push_back(parts.plan);
    commits.push_back(parts.commit);
    ledgers.push_back(parts.ledger);
    outputs.push_back(parts.output);
  }
  PrintRow(load.name, {Median(plans), Median(ledgers), Median(commits), Median(outputs)});
}

int Main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::fprintf(stderr, "usage: %s TOKENIZER.model [runs]\n", argv[0]);
    return 64;
  }
  const auto tokenizer = Tokenizer::Load(argv[1]);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().ToString().c_str());
    return 66;
  }
  const Tokenizer& text = **tokenizer;
  const int num_runs = argc == 3 ? std::max(1, std::atoi(argv[2])) : 7;
  const std::vector<Workload> sizes = {{.name = "1 sequence", .num_sequences = 1},
                                       {.name = "64 sequences", .num_sequences = 64},
                                       {.name = "256 sequences", .num_sequences = 256}};

  PrintHeader("The engine thread over one rank that answers at once",
              {"total", "output", "plan", "ranks", "commit", "launch", "engine cpu", "output cpu"});
  for (const Workload& load : sizes) PrintEngine(load, text, num_runs);
  const Workload most = sizes.back();
  std::vector<Workload> variants(6, most);
  variants[0].name = "256, ids only";
  variants[0].text = false;
  variants[1].name = "256, 4 stop strings each";
  variants[1].num_stop_strings = 4;
  variants[2].name = "256, 20 logprobs each";
  variants[2].num_logprobs = 20;
  variants[3].name = "256, no thread for the rank";
  variants[3].has_rank_threads = false;
  variants[4].name = "256 over 8 ranks";
  variants[4].num_ranks = 8;
  variants[5].name = "256 over 8 ranks, no threads";
  variants[5].num_ranks = 8;
  variants[5].has_rank_threads = false;
  for (const Workload& load : variants) PrintEngine(load, text, num_runs);

  PrintHeader("Over a rank that takes 3 ms: by how much a step becomes longer",
              {"gap", "total", "rank", "output", "plan", "commit", "engine cpu", "output cpu"});
  for (Workload load : sizes) {
    load.step_time = std::chrono::milliseconds(3);
    load.num_tokens = 300;
    PrintGap(load, text, num_runs);
  }

  PrintHeader("The parts alone, on one thread", {"plan", "ledger", "commit", "output"});
  for (const Workload& load : sizes) PrintParts(load, text, num_runs);
  for (const Workload& load : variants) {
    if (load.has_rank_threads) PrintParts(load, text, num_runs);
  }
  return 0;
}

}  // namespace
}  // namespace moed

int main(int argc, char** argv) { return moed::Main(argc, argv); }
