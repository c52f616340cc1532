#include "tests/golden/request_mix.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/golden/golden_model.h"

namespace moed {
namespace {

class MixDrawer {
 public:
  MixDrawer(uint64_t seed, const ModelConfig& config) : random_(seed), config_(config) {}

  RequestMix Mix();

 private:
  // In [low, high].
  int32_t Number(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(random_() % static_cast<uint64_t>(high - low + 1));
  }
  bool Percent(int32_t percent) { return Number(1, 100) <= percent; }
  float Real(float low, float high) {
    return low + (high - low) * static_cast<float>(random_() >> 40) / static_cast<float>(1 << 24);
  }
  template <typename T>
  T OneOf(std::vector<T> values) {
    return values[static_cast<size_t>(Number(0, static_cast<int32_t>(values.size()) - 1))];
  }
  int32_t Token() { return Number(0, static_cast<int32_t>(config_.vocab_size) - 1); }
  std::vector<int32_t> Tokens(int32_t count) {
    std::vector<int32_t> tokens(static_cast<size_t>(count));
    for (int32_t& token : tokens) token = Token();
    return tokens;
  }

  MixEngine Engine();
  // Hardly enough for the longest continuation.
  int64_t NumKvBlocks(const RequestMix& mix);
  MixRequest Request(const MixEngine& engine);
  std::vector<int32_t> Prompt();
  SamplingParams Sampling(const std::vector<int32_t>& few_tokens);
  void Penalties(SamplingParams& sampling);
  StoppingParams Stopping(const std::vector<int32_t>& few_tokens);
  ResponseOptions Response();

  std::mt19937_64 random_;
  const ModelConfig& config_;
  std::vector<std::vector<int32_t>> documents_;  // what prompts begin with
};

std::vector<int32_t> MixDrawer::Prompt() {
  std::vector<int32_t> prompt;
  if (Percent(80)) {
    prompt = OneOf(documents_);
    if (Percent(50))
      prompt.resize(static_cast<size_t>(Number(1, static_cast<int32_t>(prompt.size()))));
  }
  const std::vector<int32_t> tail = Tokens(Number(prompt.empty() ? 1 : 0, 6));
  prompt.insert(prompt.end(), tail.begin(), tail.end());
  return prompt;
}

void MixDrawer::Penalties(SamplingParams& sampling) {
  if (Percent(50)) sampling.presence_penalty = Real(-2, 2);
  if (Percent(50)) sampling.frequency_penalty = Real(-2, 2);
  if (Percent(50)) sampling.repetition_penalty = Real(0.5F, 2);
}

SamplingParams MixDrawer::Sampling(const std::vector<int32_t>& few_tokens) {
  SamplingParams sampling;
  sampling.seed = random_();
  sampling.temperature = Percent(25) ? 0 : Real(0.3F, 1.6F);
  if (Percent(25)) sampling.top_k = Number(1, 60);
  if (Percent(25)) sampling.top_p = Real(0.3F, 1);
  if (Percent(20)) sampling.min_p = Real(0, 0.3F);
  if (Percent(20)) sampling.typical_p = Real(0.3F, 1);
  if (Percent(30)) sampling.n = Number(2, kMostMixChoices);
  if (Percent(40)) Penalties(sampling);
  if (Percent(20)) {
    for (const int32_t id : few_tokens) {
      if (Percent(60)) sampling.logit_bias.push_back({id, Real(-8, 8)});
    }
  }
  if (Percent(35)) sampling.allowed_token_ids = few_tokens;
  if (Percent(25)) {
    const int32_t num_words = Number(1, 4);
    for (int32_t i = 0; i < num_words; ++i) {
      std::vector<int32_t>& word = sampling.bad_words.emplace_back();
      const int32_t length = Number(1, 3);
      for (int32_t t = 0; t < length; ++t) word.push_back(OneOf(few_tokens));
    }
  }
  return sampling;
}

StoppingParams MixDrawer::Stopping(const std::vector<int32_t>& few_tokens) {
  StoppingParams stopping;
  stopping.max_tokens = Number(1, 18);
  if (Percent(40)) stopping.min_tokens = Number(1, stopping.max_tokens);
  if (Percent(40)) {
    std::set<int32_t> ids;
    for (int32_t i = Number(1, 2); i > 0; --i) ids.insert(OneOf(few_tokens));
    stopping.stop_token_ids.assign(ids.begin(), ids.end());
  }
  if (Percent(70)) stopping.eos_token_ids = {2};
  if (Percent(15)) stopping.stop_strings = {OneOf<std::string>({"e", " a", "th", ".", "s "})};
  stopping.include_stop = Percent(30);
  if (Percent(8)) stopping.time_limit = Number(1, 40) * kMixStepTime;
  return stopping;
}

ResponseOptions MixDrawer::Response() {
  ResponseOptions response;
  response.text = Percent(50);
  if (Percent(50)) response.num_logprobs = Number(0, kMaxLogprobs);
  if (Percent(20)) response.num_prompt_logprobs = Number(0, kMaxLogprobs);
  if (Percent(15)) {
    response.echo = true;
    response.num_prompt_logprobs = std::max(response.num_prompt_logprobs, response.num_logprobs);
  }
  response.skip_special_tokens = Percent(70);
  response.routed_experts = Percent(15);
  return response;
}

MixRequest MixDrawer::Request(const MixEngine& engine) {
  // Few enough for stops, bad words and penalties to meet what is drawn.
  std::set<int32_t> few;
  while (few.size() < 7) few.insert(Number(3, static_cast<int32_t>(config_.vocab_size) - 1));
  const std::vector<int32_t> few_tokens(few.begin(), few.end());
  MixRequest mixed;
  GenerationRequest& request = mixed.request;
  request.prompt_token_ids = Prompt();
  request.sampling = Sampling(few_tokens);
  request.stopping = Stopping(few_tokens);
  request.response = Response();
  if (Percent(30)) request.experts_per_token = Number(1, kMostMixExperts);
  if (Percent(40)) request.scheduling.priority = Number(-3, 3);
  if (Percent(15)) request.cache.bypass = true;
  if (Percent(15)) request.cache.salt = OneOf<std::string>({"one", "two"});
  if (Percent(12)) request.scheduling.home_rank = Number(0, engine.num_ranks - 1);
  mixed.arrives_in_step = Percent(35) ? 0 : static_cast<uint64_t>(Number(1, 50));
  if (Percent(6)) {
    mixed.cancelled_in_step = mixed.arrives_in_step + static_cast<uint64_t>(Number(1, 20));
  }
  return mixed;
}

RequestMix MixDrawer::Mix() {
  RequestMix mix;
  mix.engine = Engine();
  const int32_t num_documents = Number(1, 3);
  for (int32_t i = 0; i < num_documents; ++i) documents_.push_back(Tokens(Number(2, 40)));
  mix.requests.resize(static_cast<size_t>(Number(5, 9) + Number(0, 2 * mix.engine.num_ranks)));
  for (MixRequest& request : mix.requests) request = Request(mix.engine);
  std::stable_sort(mix.requests.begin(), mix.requests.end(),
                   [](const MixRequest& a, const MixRequest& b) {
                     return a.arrives_in_step < b.arrives_in_step;
                   });
  for (size_t i = 0; i < mix.requests.size(); ++i) {
    mix.requests[i].request.request_id = absl::StrCat("request ", i);
  }
  mix.engine.num_kv_blocks = NumKvBlocks(mix);
  return mix;
}

MixEngine MixDrawer::Engine() {
  MixEngine engine;
  std::vector<CpuIsa> isas = {CpuIsa::kPortable};
  // The one that users run, more often.
  if (CpuSupports(CpuIsa::kAvx512Bf16)) isas.insert(isas.end(), 3, CpuIsa::kAvx512Bf16);
  engine.isa = OneOf(isas);
  engine.dtype = Percent(50) ? DType::kFloat32 : DType::kBFloat16;
  engine.num_threads = Number(1, 3);
  engine.num_ranks = OneOf<int>({1, 2, 3, 4, 8});
  engine.block_size = OneOf<int64_t>({1, 2, 3, 4, 5, 8, 16});
  engine.max_sequences = Number(kMostMixChoices, 12);
  engine.token_budget = Percent(30) ? kMostMixPositions : Number(kMostMixChoices, 16);
  engine.max_gather_rows = Percent(30) ? 0 : Number(kMostMixChoices, engine.token_budget);
  engine.exchange =
      engine.max_gather_rows == 0
          ? ExchangeMode::kAuto
          : OneOf<ExchangeMode>({ExchangeMode::kAuto, ExchangeMode::kExact, ExchangeMode::kGather});
  engine.max_experts_per_token = Number(kMostMixExperts, static_cast<int32_t>(config_.num_experts));
  engine.prefix_cache = Percent(75);
  return engine;
}

int64_t MixDrawer::NumKvBlocks(const RequestMix& mix) {
  int64_t most_tokens = 0;
  for (const MixRequest& mixed : mix.requests) {
    const auto prompt_tokens = static_cast<int64_t>(mixed.request.prompt_token_ids.size());
    most_tokens = std::max(most_tokens, prompt_tokens + mixed.request.stopping.max_tokens - 1);
  }
  const int64_t block_size = mix.engine.block_size;
  const auto most_blocks = static_cast<int32_t>((most_tokens + block_size - 1) / block_size);
  return most_blocks + Number(0, most_blocks / 2);
}

const char* ExchangeModeName(ExchangeMode mode) {
  switch (mode) {
    case ExchangeMode::kAuto:
      return "auto";
    case ExchangeMode::kExact:
      return "exact";
    case ExchangeMode::kGather:
      return "gather";
  }
  return "?";
}

}  // namespace

RequestMix DrawRequestMix(uint64_t seed, const ModelConfig& config) {
  return MixDrawer(seed, config).Mix();
}

std::string EngineText(const MixEngine& engine) {
  return absl::StrCat(engine.num_ranks, " ranks, ", IsaAndDTypeName(engine.isa, engine.dtype), ", ",
                      engine.num_threads, " threads, ", engine.num_kv_blocks, " blocks of ",
                      engine.block_size, ", ", engine.max_sequences, " sequences, budget ",
                      engine.token_budget, ", exchange ", ExchangeModeName(engine.exchange),
                      " up to ", engine.max_gather_rows, ", k up to ", engine.max_experts_per_token,
                      ", prefix cache ", engine.prefix_cache ? "on" : "off");
}

std::string RequestText(const MixRequest& mixed) {
  const GenerationRequest& request = mixed.request;
  const SamplingParams& sampling = request.sampling;
  const StoppingParams& stopping = request.stopping;
  const ResponseOptions& response = request.response;
  std::string text = absl::StrCat(
      request.request_id, ": prompt of ", request.prompt_token_ids.size(), ", max_tokens ",
      stopping.max_tokens, ", min_tokens ", stopping.min_tokens, ", n ", sampling.n,
      ", temperature ", sampling.temperature, ", top_k ", sampling.top_k, ", top_p ",
      sampling.top_p, ", min_p ", sampling.min_p, ", typical_p ", sampling.typical_p,
      ", penalties ", sampling.presence_penalty, " ", sampling.frequency_penalty, " ",
      sampling.repetition_penalty, ", ", sampling.logit_bias.size(), " biases, ",
      sampling.allowed_token_ids.size(), " allowed, ", sampling.bad_words.size(),
      " bad words, stops [", absl::StrJoin(stopping.stop_token_ids, " "), "] \"",
      absl::StrJoin(stopping.stop_strings, " "), "\", logprobs ", response.num_logprobs,
      ", of the prompt ", response.num_prompt_logprobs, ", k ", request.experts_per_token,
      ", priority ", request.scheduling.priority, ", arrives in step ", mixed.arrives_in_step);
  if (response.echo) absl::StrAppend(&text, ", echo");
  if (response.routed_experts) absl::StrAppend(&text, ", routed experts");
  if (request.cache.bypass) absl::StrAppend(&text, ", bypasses the cache");
  if (!request.cache.salt.empty()) absl::StrAppend(&text, ", salt ", request.cache.salt);
  if (request.scheduling.home_rank)
    absl::StrAppend(&text, ", on rank ", *request.scheduling.home_rank);
  if (stopping.time_limit) absl::StrAppend(&text, ", for ", stopping.time_limit->count(), " ms");
  if (mixed.cancelled_in_step)
    absl::StrAppend(&text, ", cancelled in step ", *mixed.cancelled_in_step);
  return text;
}

}  // namespace moed
