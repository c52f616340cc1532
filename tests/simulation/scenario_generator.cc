#include "tests/simulation/scenario_generator.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "tests/simulation/seeded_random.h"
#include "tests/simulation/solo_oracle.h"
#include "tests/support/tiny_tokenizer.h"

namespace moed {
namespace {

constexpr int64_t kHourUs = 3600LL * 1000 * 1000;

class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) { scenario_.seed = seed; }

  Scenario Make() {
    MakeEngine();
    for (int i = random_.Int(1, 3); i > 0; --i) families_.push_back(Tokens(max_kv_tokens_));
    window_us_ = random_.Pick<int64_t>({0, 2000, 20000, 60000});
    const int num_requests = random_.Int(1, random_.Pick<int32_t>({4, 12, 40}));
    for (int i = 0; i < num_requests; ++i) AddRequest(i);
    AddEngineEvents();
    std::stable_sort(
        scenario_.events.begin(), scenario_.events.end(),
        [](const SimulatedEvent& a, const SimulatedEvent& b) { return a.at_us < b.at_us; });
    return std::move(scenario_);
  }

 private:
  int32_t vocab() const { return scenario_.engine.model.vocab; }
  std::vector<int32_t> Tokens(int32_t count) {
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < count; ++i) tokens.push_back(random_.Int(0, vocab() - 1));
    return tokens;
  }

  void MakeEngine() {
    SimulatedEngine& engine = scenario_.engine;
    SchedulerOptions& scheduler = engine.scheduler;
    scheduler.num_ranks = random_.Int(1, 3);
    scheduler.max_sequences_per_rank = random_.Int(1, random_.Pick<int32_t>({2, 4, 8}));
    scheduler.token_budget = random_.Int(1, random_.Pick<int32_t>({4, 12, 32}));
    scheduler.block_size = random_.Int(1, 5);
    // Of the largest request that is accepted. There is room for a little more than that.
    max_kv_tokens_ = random_.Int(4, random_.Pick<int32_t>({16, 32, 64}));
    const int32_t num_blocks = (max_kv_tokens_ - 1) / scheduler.block_size + 1;
    scheduler.num_blocks_per_rank = num_blocks + random_.Int(0, num_blocks * random_.Int(0, 3));
    scheduler.max_waiting = random_.OneIn(4) ? random_.Int(1, 4) : 64;
    scheduler.experts_per_token = 1;
    scheduler.prefix_cache = !random_.OneIn(8);
    scheduler.ageing = std::chrono::milliseconds(random_.OneIn(8) ? 0 : random_.Int(1, 20));
    MakeExchange(&scheduler);
    engine.model.vocab = SimulationTokenizer().vocab_size();
    engine.model.experts_per_token = scheduler.experts_per_token;
    engine.model.drops_pairs = random_.OneIn(4);
    engine.outbox_bytes = random_.OneIn(2) ? random_.Int(1, 64) : 4096;
    engine.max_uncommitted_plans = random_.OneIn(5) ? 1 : Scheduler::kMaxUncommittedPlans;
    engine.flushes_output = !random_.OneIn(4);
    engine.standing_time_percent = random_.Pick<int>({0, 50, 95});
    engine.longest_action_us = random_.Pick<int64_t>({10, 300, 3000});
    engine.output_weight = random_.Pick<int>({1, 4, 16});
    engine.reader_weight = random_.Pick<int>({1, 4, 16});
  }

  void MakeExchange(SchedulerOptions* scheduler) {
    ExchangePolicy& exchange = scheduler->exchange;
    exchange.mode = random_.Pick<ExchangeMode>(
        {ExchangeMode::kAuto, ExchangeMode::kAuto, ExchangeMode::kExact, ExchangeMode::kGather});
    exchange.max_gather_rows = random_.OneIn(3) && exchange.mode != ExchangeMode::kGather
                                   ? 0
                                   : random_.Int(1, scheduler->token_budget);
    exchange.max_gather_group_rows = random_.Int(1, 40);
    scheduler->token_budget = TokenBudgetLimit(exchange, scheduler->token_budget);
  }

  void AddRequest(int index) {
    SimulatedRequest simulated;
    GenerationRequest& request = simulated.request;
    request.sampling.seed = static_cast<uint64_t>(index) + 1;  // its name in the plans
    const int32_t num_prompt =
        random_.Int(1, random_.OneIn(2) ? max_kv_tokens_ / 4 : max_kv_tokens_);
    SetPrompt(num_prompt, &request);
    const int32_t most_tokens = max_kv_tokens_ - num_prompt + 1;
    request.stopping.max_tokens = random_.OneIn(2) ? most_tokens : random_.Int(1, most_tokens);
    if (random_.OneIn(30)) BreakRequest(&request);
    SetSampling(&request.sampling);
    SetStopping(&request.stopping);
    SetResponse(&request.response);
    const SchedulerOptions& scheduler = scenario_.engine.scheduler;
    if (random_.OneIn(6)) request.experts_per_token = random_.Int(1, 2);
    if (random_.OneIn(3)) request.scheduling.priority = random_.Int(-5, 5);
    if (random_.OneIn(5)) request.scheduling.home_rank = random_.Int(0, scheduler.num_ranks - 1);
    request.cache.bypass = random_.OneIn(8);
    if (random_.OneIn(6)) request.cache.salt.push_back(random_.OneIn(2) ? 'a' : 'b');
    if (random_.OneIn(8)) simulated.deadline_after_us = random_.Between(-10, window_us_ + 20000);
    scenario_.requests.push_back(std::move(simulated));

    // Bursts: at the same time as the one before.
    if (index == 0 || !random_.OneIn(3)) arrives_at_us_ = random_.Between(0, window_us_);
    AddEvent(SimulatedEventKind::kSubmit, arrives_at_us_, index);
    AddRequestEvents(index);
  }

  // Mostly the beginning of one of a few prompts, and then its own.
  void SetPrompt(int32_t num_tokens, GenerationRequest* request) {
    const std::vector<int32_t>& family = random_.Pick(families_);
    const int32_t num_common = random_.OneIn(4) ? 0 : random_.Int(num_tokens / 2, num_tokens);
    request->prompt_token_ids.assign(family.begin(), family.begin() + num_common);
    for (const int32_t token : Tokens(num_tokens - num_common)) {
      request->prompt_token_ids.push_back(token);
    }
  }

  // To be refused.
  void BreakRequest(GenerationRequest* request) {
    switch (random_.Int(0, 3)) {
      case 0:
        request->prompt_token_ids.clear();
        break;
      case 1:
        request->stopping.max_tokens = random_.Int(-1, 0);
        break;
      case 2:
        request->stopping.max_tokens = 1000;
        break;
      default:
        request->scheduling.home_rank = random_.OneIn(2) ? -1 : 3;
    }
  }

  void SetSampling(SamplingParams* sampling) {
    const SchedulerOptions& scheduler = scenario_.engine.scheduler;
    if (random_.OneIn(3)) sampling->n = random_.Int(1, scheduler.max_sequences_per_rank);
    if (random_.OneIn(30)) sampling->n = scheduler.max_sequences_per_rank + 1;
    if (random_.OneIn(3)) sampling->temperature = 0.5F;
    if (random_.OneIn(5)) sampling->presence_penalty = 0.25F;
    if (random_.OneIn(5)) sampling->bad_words = {{7, 8}};
    if (random_.OneIn(5)) sampling->logit_bias = {{5, 1.5F}};
  }

  void SetStopping(StoppingParams* stopping) {
    if (random_.OneIn(4)) stopping->min_tokens = random_.Int(0, std::max(0, stopping->max_tokens));
    if (!random_.OneIn(4)) stopping->eos_token_ids = {kTinyEos};
    if (random_.OneIn(3)) {
      // Enough of them for one to come up now and then.
      const int32_t first = random_.Int(3, vocab() - 60);
      for (int32_t i = 0; i < 30; ++i) stopping->stop_token_ids.push_back(first + i);
    }
    if (random_.OneIn(3)) {
      const std::vector<std::string> strings = {"a",        "e",  "ab", "STOP",
                                                "\xC3\xA9", "ij", "gh", "he"};
      for (int i = random_.Int(1, 3); i > 0; --i) {
        stopping->stop_strings.push_back(random_.Pick(strings));
      }
    }
    stopping->include_stop = random_.OneIn(3);
    if (random_.OneIn(8)) stopping->time_limit = std::chrono::milliseconds(random_.Int(1, 30));
  }

  void SetResponse(ResponseOptions* response) {
    response->text = !random_.OneIn(4);
    if (random_.OneIn(4)) response->num_logprobs = random_.Int(0, 3);
    if (random_.OneIn(6)) response->num_prompt_logprobs = random_.Int(0, 3);
    response->echo = random_.OneIn(6);
    if (response->echo && response->num_logprobs > response->num_prompt_logprobs) {
      response->num_reported_prompt_logprobs = response->num_prompt_logprobs;
      response->num_prompt_logprobs = response->num_logprobs;
    }
    response->skip_special_tokens = !random_.OneIn(4);
    response->routed_experts = random_.OneIn(8);
  }

  void AddEvent(SimulatedEventKind kind, int64_t at_us, int request, int64_t amount_us = 0) {
    SimulatedEvent event;
    event.kind = kind;
    event.at_us = at_us;
    event.request = request;
    event.amount_us = amount_us;
    // What befalls a running request is at its worst between certain tokens.
    const bool may_wait = request >= 0 && kind != SimulatedEventKind::kSubmit;
    if (may_wait && random_.OneIn(2)) event.at_token = random_.Int(0, 6);
    scenario_.events.push_back(event);
  }

  void AddRequestEvents(int index) {
    const auto later = [this] { return arrives_at_us_ + random_.Between(0, 30000); };
    if (random_.OneIn(5)) AddEvent(SimulatedEventKind::kCancel, later(), index);
    if (random_.OneIn(20)) AddEvent(SimulatedEventKind::kCancel, arrives_at_us_, index);
    if (random_.OneIn(15)) AddEvent(SimulatedEventKind::kReaderGone, later(), index);
    if (random_.OneIn(4)) {
      AddEvent(SimulatedEventKind::kReaderStalls, later(), index, random_.Between(1, 40000));
    }
  }

  void AddEngineEvents() {
    const auto any_time = [this] { return random_.Between(0, window_us_ + 10000); };
    if (random_.OneIn(6)) {
      for (int i = random_.Int(1, 2); i > 0; --i) {
        AddEvent(SimulatedEventKind::kRankFails, any_time(), -1);
      }
    }
    if (random_.OneIn(4)) {
      const int64_t longest = random_.Pick<int64_t>({5000, 50000, kHourUs});
      AddEvent(SimulatedEventKind::kClockJumps, any_time(), -1, random_.Between(1, longest));
    }
  }

  SeededRandom random_;
  Scenario scenario_;
  int32_t max_kv_tokens_ = 0;
  int64_t window_us_ = 0;
  int64_t arrives_at_us_ = 0;
  std::vector<std::vector<int32_t>> families_;
};

}  // namespace

Scenario MakeScenario(uint64_t seed) { return Generator(seed).Make(); }

}  // namespace moed
