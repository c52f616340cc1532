// Times decode and prompt steps by batch and length, without engine or front end, on seeded
// weights, and prints each beside its floor. Run by hand: moed_step_bench --help
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "kernels/core/thread_pool.h"
#include "kernels/cpu/cpu_backend.h"
#include "parallel/gpu_plugin.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/engine/thread_worker_group.h"
#include "tests/bench/step_floor.h"

namespace moed {
namespace {

constexpr int64_t kBlockTokens = 16;

struct Options {
  std::string model;
  std::string device = "cpu";
  std::string plugin;
  std::string dtype = "bfloat16";
  bool deterministic = false;
  std::string exchange = "gather";
  int threads = 0;
  int emulated_rank = 0;
  int emulated_ranks = 1;
  std::vector<int32_t> batches = {1, 8, 32, 64};
  std::vector<int32_t> prompts = {512};
  int32_t context_tokens = 1024;
  int runs = 5;
  double gigabytes_per_second = 0;
  double teraflops = 0;
};

struct Measured {
  double median_seconds = 0;
  double device_seconds = 0;  // median of what the device says
};

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options) {}

  absl::Status Run() {
    MOED_RETURN_IF_ERROR(Start());
    const DeviceLimits limits{.bytes_per_second = options_.gigabytes_per_second * 1e9,
                              .flops_per_second = options_.teraflops * 1e12};
    const StepFloor floor(config_, dtype_, limits);
    std::printf("%s\n%s, %d of %d experts a layer here, %s exchange, %d runs, medians\n",
                info_.backend.c_str(), DTypeName(dtype_), NumLocalExperts(),
                static_cast<int>(config_.num_experts), options_.exchange.c_str(), options_.runs);
    if (limits.bytes_per_second <= 0 || limits.flops_per_second <= 0) {
      std::printf("no floor: give --bandwidth and --flops of this device\n");
    }
    std::printf("%-8s %7s %8s %10s %10s %9s %9s %9s %7s\n", "step", "batch", "tokens", "wall ms",
                "device ms", "GB/s", "TFLOP/s", "floor ms", "floor %");
    for (const int32_t batch : options_.batches) MOED_RETURN_IF_ERROR(Decode(batch, floor));
    for (const int32_t tokens : options_.prompts) MOED_RETURN_IF_ERROR(Prompt(tokens, floor));
    group_->Stop();
    return absl::OkStatus();
  }

 private:
  int NumLocalExperts() const {
    return static_cast<int>((config_.num_experts + options_.emulated_ranks - 1) /
                            options_.emulated_ranks);
  }

  absl::Status Start() {
    MOED_ASSIGN_OR_RETURN(Checkpoint checkpoint,
                          Checkpoint::Open(options_.model, {.format = LoadFormat::kDummy}));
    config_ = checkpoint.metadata.config;
    dtype_ = options_.dtype == "float32" ? DType::kFloat32 : DType::kBFloat16;
    const int32_t most_rows =
        std::max(*std::max_element(options_.batches.begin(), options_.batches.end()),
                 *std::max_element(options_.prompts.begin(), options_.prompts.end()));
    if (std::max(options_.context_tokens + 64, most_rows) > config_.max_positions) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the model's context is ", config_.max_positions, " tokens: --context + 64 is ",
          options_.context_tokens + 64, ", the longest step ", most_rows));
    }
    ThreadWorkerGroupOptions group;
    group.config = config_;
    group.weights = std::move(checkpoint.weights);
    group.max_sequences_per_rank =
        *std::max_element(options_.batches.begin(), options_.batches.end());
    group.max_rows_per_step = most_rows;
    group.max_gather_rows = options_.exchange == "gather" ? most_rows : 0;
    group.block_size = kBlockTokens;
    blocks_per_sequence_ = (options_.context_tokens + 64) / kBlockTokens + 1;
    group.num_kv_blocks = std::max<int64_t>(blocks_per_sequence_ * group.max_sequences_per_rank,
                                            most_rows / kBlockTokens + 1);
    if (options_.emulated_ranks > 1) {
      group.emulated = {.rank = options_.emulated_rank, .num_ranks = options_.emulated_ranks};
    }
    MOED_RETURN_IF_ERROR(ChooseDevice(group));
    group_ = std::make_unique<ThreadWorkerGroup>(std::move(group));
    const bool shown = isatty(STDERR_FILENO) != 0;
    MOED_ASSIGN_OR_RETURN(info_, group_->Start([shown](const RankProgress& progress) {
      if (shown) std::fprintf(stderr, "\r%-20s %3.0f %%", progress.phase, 100 * progress.fraction);
      return true;
    }));
    if (shown) std::fprintf(stderr, "\n");
    return absl::OkStatus();
  }

  absl::Status ChooseDevice(ThreadWorkerGroupOptions& group) {
    if (options_.device == "cpu") {
      CpuBackendOptions cpu;
      MOED_ASSIGN_OR_RETURN(cpu.isa, ParseCpuIsa("auto"));
      cpu.activation_dtype = dtype_;
      const int threads = options_.threads > 0
                              ? options_.threads
                              : static_cast<int>(std::thread::hardware_concurrency());
      cpu.pool = std::make_shared<ThreadPool>(threads);
      group.make_backend = [cpu](int) { return MakeCpuBackend(cpu); };
      return absl::OkStatus();
    }
    MOED_ASSIGN_OR_RETURN(
        gpu_, OpenGpuPlugin(options_.plugin.empty() ? DefaultGpuPluginPath() : options_.plugin));
    MOED_RETURN_IF_ERROR(gpu_->ListDevices().status());
    const GpuBackendOptions gpu{.activation_dtype = dtype_,
                                .deterministic = options_.deterministic};
    group.make_backend = [this, gpu](int) { return gpu_->MakeBackend(gpu); };
    group.make_group = [this](int num_ranks, std::chrono::milliseconds deadline) {
      return gpu_->MakeVirtualRankGroup(num_ranks, /*device=*/0, deadline);
    };
    return absl::OkStatus();
  }

  // Every sequence stands at the end of its context, whose keys are zeros: what is there does not
  // change what is read.
  absl::Status Decode(int32_t batch, const StepFloor& floor) {
    RankBatch first = MakeBatch(batch);
    for (int32_t slot = 0; slot < batch; ++slot) {
      first.admitted.push_back(Init(slot));
      SequenceChunk& chunk = first.chunks.emplace_back();
      chunk.slot = slot;
      chunk.start_position = options_.context_tokens - 1;
      chunk.tokens = {(slot * 7919 + 13) % info_.vocab};
      for (int64_t block = 0; block < blocks_per_sequence_; ++block) {
        chunk.new_blocks.push_back(static_cast<int32_t>(slot * blocks_per_sequence_ + block));
      }
      chunk.sample = true;
    }
    int32_t position = options_.context_tokens;
    const auto next = [&] {
      RankBatch step = MakeBatch(batch);
      for (int32_t slot = 0; slot < batch; ++slot) {
        SequenceChunk& chunk = step.chunks.emplace_back();
        chunk.slot = slot;
        chunk.start_position = position;
        chunk.tokens = {kLastSampledToken};
        chunk.sample = true;
      }
      ++position;
      return step;
    };
    MOED_RETURN_IF_ERROR(Step(std::move(first)).status());
    MOED_ASSIGN_OR_RETURN(const Measured measured, Time(next));
    const double rows = batch;
    const double context = options_.context_tokens;
    Print("decode", batch, options_.context_tokens, measured,
          floor.Of({.rows = rows,
                    .logit_rows = rows,
                    .kv_tokens = rows * context,
                    .scores = rows * context,
                    .copies = static_cast<double>(options_.emulated_ranks),
                    .local_experts = static_cast<double>(NumLocalExperts())}));
    return absl::OkStatus();
  }

  absl::Status Prompt(int32_t tokens, const StepFloor& floor) {
    const auto next = [&] {
      RankBatch step = MakeBatch(tokens);
      step.admitted.push_back(Init(0));
      SequenceChunk& chunk = step.chunks.emplace_back();
      for (int32_t i = 0; i < tokens; ++i) {
        chunk.tokens.push_back((i * 7919 + i / 3) % info_.vocab);
      }
      for (int32_t block = 0; block * kBlockTokens < tokens; ++block) {
        chunk.new_blocks.push_back(block);
      }
      chunk.sample = true;
      return step;
    };
    MOED_ASSIGN_OR_RETURN(const Measured measured, Time(next));
    const double rows = tokens;
    Print("prompt", 1, tokens, measured,
          floor.Of({.rows = rows,
                    .logit_rows = 1,
                    .kv_tokens = rows,
                    .scores = rows * (rows + 1) / 2,
                    .copies = static_cast<double>(options_.emulated_ranks),
                    .local_experts = static_cast<double>(NumLocalExperts())}));
    return absl::OkStatus();
  }

  SlotInit Init(int32_t slot) const {
    SlotInit init;
    init.slot = slot;
    init.sampling.temperature = 0;
    return init;
  }

  RankBatch MakeBatch(int32_t rows) {
    RankBatch batch;
    batch.step = next_step_++;
    if (options_.exchange == "gather") {
      batch.exchange = ExchangeStrategy::kGather;
      batch.padded_rows = rows;
    }
    return batch;
  }

  absl::StatusOr<RankResult> Step(RankBatch batch) {
    std::vector<RankBatch> batches;
    batches.push_back(std::move(batch));
    MOED_RETURN_IF_ERROR(group_->Launch(std::move(batches)));
    MOED_ASSIGN_OR_RETURN(std::vector<RankResult> results, group_->Await());
    return std::move(results.front());
  }

  template <typename NextBatch>
  absl::StatusOr<Measured> Time(NextBatch next) {
    constexpr int kWarmUp = 2;
    std::vector<double> wall;
    std::vector<double> device;
    for (int run = 0; run < kWarmUp + options_.runs; ++run) {
      RankBatch batch = next();
      const auto start = std::chrono::steady_clock::now();
      MOED_ASSIGN_OR_RETURN(const RankResult result, Step(std::move(batch)));
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      if (run < kWarmUp) continue;
      wall.push_back(took.count());
      device.push_back(result.compute_seconds);
    }
    return Measured{Median(wall), Median(device)};
  }

  static void Print(const char* step, int32_t batch, int32_t tokens, const Measured& measured,
                    const StepCost& cost) {
    const double seconds = measured.device_seconds;
    std::printf("%-8s %7d %8d %10.3f %10.3f %9.1f %9.3f", step, batch, tokens,
                1e3 * measured.median_seconds, 1e3 * seconds, cost.bytes / seconds / 1e9,
                cost.flops / seconds / 1e12);
    if (cost.floor_seconds > 0) {
      std::printf(" %9.3f %6.1f%%", 1e3 * cost.floor_seconds, 100 * cost.floor_seconds / seconds);
    }
    std::printf("\n");
    std::fflush(stdout);
  }

  const Options& options_;
  ModelConfig config_;
  DType dtype_ = DType::kBFloat16;
  int64_t blocks_per_sequence_ = 0;
  uint64_t next_step_ = 0;
  std::unique_ptr<GpuPlatform> gpu_;
  std::unique_ptr<ThreadWorkerGroup> group_;
  WorkerGroupInfo info_;
};

}  // namespace
}  // namespace moed

int main(int argc, char** argv) {
  moed::Options options;
  CLI::App app(
      "Times decode and prompt steps of one rank on seeded weights, without engine or front end.\n"
      "GB/s and TFLOP/s count what the step must read and compute; the floor is the time that\n"
      "takes at --bandwidth and --flops, part by part.");
  std::string emulated;
  app.add_option("--model", options.model, "Directory with config.json, or a config file")
      ->required();
  app.add_option("--device", options.device, "cpu or cuda")->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_option("--gpu-plugin", options.plugin, "Library; default: as moed's");
  app.add_option("--dtype", options.dtype, "")->check(CLI::IsMember({"float32", "bfloat16"}));
  app.add_flag("--deterministic", options.deterministic, "As moed's");
  app.add_option("--exchange", options.exchange, "")->check(CLI::IsMember({"gather", "exact"}));
  app.add_option("--threads", options.threads, "Of the CPU; default: all")
      ->check(CLI::PositiveNumber);
  app.add_option("--emulate-rank", emulated, "R/N: that rank of N, the others made up");
  app.add_option("--batches", options.batches, "Sequences of decode steps")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  app.add_option("--context", options.context_tokens, "Tokens before each decoded one")
      ->check(CLI::PositiveNumber);
  app.add_option("--prompts", options.prompts, "Tokens of prompt steps")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  app.add_option("--runs", options.runs, "Of which the median is told")->check(CLI::PositiveNumber);
  app.add_option("--bandwidth", options.gigabytes_per_second, "GB/s that the device can read");
  app.add_option("--flops", options.teraflops, "TFLOP/s that it can compute in --dtype");
  CLI11_PARSE(app, argc, argv);
  if (!emulated.empty() &&
      (std::sscanf(emulated.c_str(), "%d/%d", &options.emulated_rank, &options.emulated_ranks) !=
           2 ||
       options.emulated_rank < 0 || options.emulated_rank >= options.emulated_ranks)) {
    std::fprintf(stderr, "--emulate-rank: expected R/N with 0 <= R < N, found %s\n",
                 emulated.c_str());
    return 64;
  }
  const absl::Status status = moed::Bench(options).Run();
  if (status.ok()) return 0;
  std::fprintf(stderr, "moed_step_bench: %s\n", std::string(status.message()).c_str());
  return 1;
}
