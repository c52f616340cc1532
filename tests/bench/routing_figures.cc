// The figures of docs/routing_statistics.md: of a model that runs prompts, or of recorded counts.
// Run by hand:
//   routing_figures models/demo ../shared/data/prompts/*.jsonl
//   routing_figures --recorded ../shared/data/routing/mixtral_mmlu_expert_share.json
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "kernels/core/thread_pool.h"
#include "kernels/cpu/cpu_backend.h"
#include "nlohmann/json.hpp"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/engine/engine_impl.h"
#include "runtime/engine/thread_worker_group.h"
#include "runtime/model/routing_statistics.h"
#include "runtime/tokenizer/tokenizer.h"

namespace moed {
namespace {

constexpr int32_t kMaxTokens = 64;  // generated for each prompt, greedily

double Percent(double share) { return 100 * share; }

void PrintSummary(const std::string& name, const RoutingSummary& summary) {
  std::printf("| %s | %.2f | %.3f | %.3f | %d |", name.c_str(), summary.max_over_mean, summary.gini,
              summary.normalized_entropy, summary.num_dead_experts);
}

// The first turn of MT-Bench's questions, the questions of GSM8K.
absl::StatusOr<std::vector<std::string>> ReadPrompts(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot open ", path));
  std::vector<std::string> prompts;
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (json.contains("turns")) {
      prompts.push_back(json["turns"].at(0));
    } else if (json.contains("question")) {
      prompts.push_back(json["question"]);
    } else {
      return absl::InvalidArgumentError(absl::StrCat(path, ": neither turns nor a question"));
    }
  }
  return prompts;
}

// Counts the ends.
class CountingSink : public GenerationSink {
 public:
  bool OnDelta(GenerationDelta delta) override {
    num_tokens += static_cast<int64_t>(delta.token_ids.size());
    return true;
  }
  void OnFinish(const GenerationFinish& finish) override {
    MutexLock lock(mutex_);
    status_ = finish.status;
    is_finished_ = true;
    finished_.NotifyAll();
  }
  absl::Status Wait() {
    MutexLock lock(mutex_);
    while (!is_finished_) finished_.Wait(mutex_);
    return status_;
  }

  int64_t num_tokens = 0;  // to be read after Wait

 private:
  Mutex mutex_;
  CondVar finished_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  bool is_finished_ ABSL_GUARDED_BY(mutex_) = false;
};

absl::StatusOr<std::unique_ptr<Engine>> StartEngine(Checkpoint checkpoint, int32_t num_prompts) {
  MOED_ASSIGN_OR_RETURN(const CpuIsa isa, ParseCpuIsa("auto"));
  const auto pool = std::make_shared<ThreadPool>(2);
  ThreadWorkerGroupOptions options;
  options.config = checkpoint.metadata.config;
  options.weights = std::move(checkpoint.weights);
  options.make_backend = [isa, pool](int) {
    return MakeCpuBackend({.isa = isa, .activation_dtype = DType::kFloat32, .pool = pool});
  };
  options.num_kv_blocks = 4096;
  options.trace_routing = true;
  auto group = std::make_unique<ThreadWorkerGroup>(std::move(options));
  MOED_ASSIGN_OR_RETURN(const WorkerGroupInfo info,
                        group->Start([](const RankProgress&) { return true; }));
  EngineOptions engine_options;
  engine_options.max_queued_requests = num_prompts;
  engine_options.keeps_token_statistics = true;
  // Every row is computed, and counts.
  engine_options.prefix_cache = false;
  return MakeEngine(std::move(engine_options), std::move(group), info, nullptr);
}

void PrintModel(const ExpertLoad& load, const TokenRoutingReport& tokens) {
  std::printf(
      "| layer | max / mean | Gini | entropy | dead | first, %% | first or second, %% | favourite, "
      "%% | favourite at random, %% | agreement, %% |\n"
      "|---|---|---|---|---|---|---|---|---|---|\n");
  for (int layer = 0; layer < load.num_layers; ++layer) {
    PrintSummary(absl::StrCat(layer), load.routing[layer]);
    const RepetitionSummary& repetition = load.repetition[layer];
    const RoutingConsistency& consistency = tokens.consistency[layer];
    std::printf(" %.1f | %.1f | %.1f | %.1f | %.1f |\n", Percent(repetition.first),
                Percent(repetition.any), Percent(consistency.favourite),
                Percent(consistency.random_favourite), Percent(consistency.agreement));
  }
  std::printf("| at random | 1.00 | 0 | 1 | 0 | %.1f | %.1f | | | %.1f |\n",
              Percent(load.random_repetition.first), Percent(load.random_repetition.any),
              100.0 / load.num_experts);
}

void PrintTopTokens(const TokenRoutingReport& report, const Tokenizer& tokenizer) {
  for (int layer = 0; layer < report.num_layers; ++layer) {
    for (int expert = 0; expert < report.num_experts; ++expert) {
      std::printf("layer %d, expert %d:", layer, expert);
      for (const ExpertTopToken& token : report.top_tokens[layer * report.num_experts + expert]) {
        const absl::string_view piece = tokenizer.IdToPiece(token.token_id);
        std::printf(" %.*s (%lld, %.0f %%)", static_cast<int>(piece.size()), piece.data(),
                    static_cast<long long>(token.num_rows), Percent(token.share));
      }
      std::printf("\n");
    }
  }
}

absl::Status RunModel(const std::string& directory, const std::vector<std::string>& files) {
  MOED_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(directory, {}));
  if (!checkpoint.metadata.tokenizer_path.has_value()) {
    return absl::InvalidArgumentError("the model has no tokenizer");
  }
  const ModelConfig config = checkpoint.metadata.config;
  MOED_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                        Tokenizer::Load(*checkpoint.metadata.tokenizer_path));
  std::vector<std::string> prompts;
  for (const std::string& file : files) {
    MOED_ASSIGN_OR_RETURN(const std::vector<std::string> more, ReadPrompts(file));
    prompts.insert(prompts.end(), more.begin(), more.end());
  }
  const auto num_prompts = static_cast<int32_t>(prompts.size());
  MOED_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                        StartEngine(std::move(checkpoint), num_prompts));
  std::vector<std::shared_ptr<CountingSink>> sinks;
  int64_t num_prompt_tokens = 0;
  for (const std::string& prompt : prompts) {
    GenerationRequest request;
    request.request_id = absl::StrCat(sinks.size());
    EncodeOptions encode;
    encode.add_bos = true;
    request.prompt_token_ids = tokenizer->Encode(prompt, encode);
    const auto room = static_cast<size_t>(config.max_positions - kMaxTokens);
    if (request.prompt_token_ids.size() > room) request.prompt_token_ids.resize(room);
    num_prompt_tokens += static_cast<int64_t>(request.prompt_token_ids.size());
    request.sampling.temperature = 0;
    request.stopping.max_tokens = kMaxTokens;
    request.stopping.eos_token_ids = {tokenizer->eos_id()};
    request.response.text = false;
    sinks.push_back(std::make_shared<CountingSink>());
    MOED_RETURN_IF_ERROR(engine->Submit(std::move(request), sinks.back()));
  }
  int64_t num_tokens = 0;
  for (const auto& sink : sinks) {
    MOED_RETURN_IF_ERROR(sink->Wait());
    num_tokens += sink->num_tokens;
  }
  const ExpertLoad load = engine->routing().Load(std::nullopt, TimePoint::max());
  MOED_ASSIGN_OR_RETURN(const TokenRoutingReport tokens, engine->routing().Tokens(/*top_n=*/5));
  std::printf("%d prompts of %lld tokens, %lld tokens generated, %lld rows\n\n", num_prompts,
              static_cast<long long>(num_prompt_tokens), static_cast<long long>(num_tokens),
              static_cast<long long>(tokens.num_rows));
  PrintModel(load, tokens);
  std::printf("\n");
  PrintTopTokens(tokens, *tokenizer);
  return absl::OkStatus();
}

// Shares are given to a millionth.
std::vector<int64_t> CountsOf(const nlohmann::json& layer) {
  std::vector<int64_t> counts;
  for (const nlohmann::json& value : layer) {
    counts.push_back(value.is_number_float() ? std::llround(1e6 * value.get<double>())
                                             : value.get<int64_t>());
  }
  return counts;
}

// The least, the median and the most of a figure over the layers.
void PrintRecorded(const std::string& name, const nlohmann::json& layers) {
  std::vector<RoutingSummary> summaries;
  for (const nlohmann::json& layer : layers) summaries.push_back(SummarizeRouting(CountsOf(layer)));
  const auto range = [&](double RoutingSummary::*field, int digits) {
    std::vector<double> values;
    for (const RoutingSummary& summary : summaries) values.push_back(summary.*field);
    std::sort(values.begin(), values.end());
    std::printf(" %.*f / %.*f / %.*f |", digits, values.front(), digits, values[values.size() / 2],
                digits, values.back());
  };
  int num_dead = 0;
  for (const RoutingSummary& summary : summaries) num_dead += summary.num_dead_experts;
  std::printf("| %s, %zu layers |", name.c_str(), summaries.size());
  range(&RoutingSummary::max_over_mean, 2);
  range(&RoutingSummary::gini, 3);
  range(&RoutingSummary::normalized_entropy, 3);
  std::printf(" %d |\n", num_dead);
}

absl::Status RunRecorded(const std::string& path) {
  std::ifstream file(path);
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return absl::InvalidArgumentError(absl::StrCat("cannot read ", path));
  std::printf("| counts | max / mean | Gini | entropy | dead |\n|---|---|---|---|---|\n");
  if (json.contains("all")) PrintRecorded("all", json["all"]);
  for (const char* key : {"subjects", "domains"}) {
    if (!json.contains(key)) continue;
    for (const auto& [name, layers] : json[key].items()) PrintRecorded(name, layers);
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() < 2) {
    std::fprintf(stderr, "usage: %s MODEL PROMPTS.jsonl... | --recorded COUNTS.json\n", argv[0]);
    return 64;
  }
  const absl::Status status =
      arguments[0] == "--recorded"
          ? RunRecorded(arguments[1])
          : RunModel(arguments[0], {arguments.begin() + 1, arguments.end()});
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace moed

int main(int argc, char** argv) { return moed::Main(argc, argv); }
