// Random mixes of requests through the engine, on the demonstration model, with too little memory:
// each request gets to the bit what it gets alone.
//
// MOED_MIXES sets how many mixes are run, MOED_FIRST_MIX the seed of the first: a mix that failed
// is run again with MOED_FIRST_MIX=<seed> MOED_MIXES=1.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "runtime/output/sequence_output.h"
#include "runtime/tokenizer/tokenizer.h"
#include "tests/golden/golden_model.h"
#include "tests/golden/mix_runner.h"
#include "tests/golden/request_mix.h"
#include "tests/golden/same_output.h"
#include "tests/support/model_harness.h"

namespace moed {
namespace {

constexpr uint64_t kDefaultMixes = kWatchesThreads ? 4 : kWatchesMemory ? 10 : 40;

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  uint64_t value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

bool EndsIt(const StoppingParams& stopping, int32_t token) {
  const auto has = [token](const std::vector<int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), token) != ids.end();
  };
  return has(stopping.eos_token_ids) || has(stopping.stop_token_ids);
}

// Runs continuations alone, on one rank and one thread, without scheduler, cache and engine.
class SoloRuns {
 public:
  explicit SoloRuns(const GoldenModel& model) : model_(model) {}

  // The first num_tokens of a continuation, and what the rank tells of its prompt.
  HarnessOutput Run(const MixEngine& engine, const GenerationRequest& request, size_t choice,
                    size_t num_tokens) {
    HarnessRequest alone;
    alone.prompt = request.prompt_token_ids;
    alone.num_tokens = static_cast<int32_t>(num_tokens);
    alone.min_tokens = request.stopping.min_tokens;
    SlotInit& init = alone.init;
    init.sampling = request.sampling;
    init.sampling.n = 1;
    init.choice_index = static_cast<uint32_t>(choice);
    init.num_logprobs = request.response.num_logprobs;
    init.num_prompt_logprobs = request.response.num_prompt_logprobs;
    init.routed_experts = request.response.routed_experts;
    init.experts_per_token = request.experts_per_token;
    init.suppressed_token_ids = request.stopping.eos_token_ids;
    for (const int32_t id : request.stopping.stop_token_ids) {
      init.suppressed_token_ids.push_back(id);
    }
    auto run = Harness(engine).Run({alone});
    EXPECT_TRUE(run.ok()) << run.status();
    return run.ok() ? std::move(run->outputs[0]) : HarnessOutput();
  }

 private:
  ModelHarness& Harness(const MixEngine& engine) {
    std::unique_ptr<ModelHarness>& harness = harnesses_[{engine.isa, engine.dtype}];
    if (harness != nullptr) return *harness;
    HarnessOptions options = model_.Options(engine.isa, engine.dtype);
    options.num_kv_blocks = 8;
    options.max_sequences = 1;
    options.max_rows = kMostMixPositions;
    options.max_experts_per_token = static_cast<int32_t>(model_.config.num_experts);
    auto made = ModelHarness::Create(options);
    EXPECT_TRUE(made.ok()) << made.status();
    harness = *std::move(made);
    return *harness;
  }

  const GoldenModel& model_;
  std::map<std::pair<CpuIsa, DType>, std::unique_ptr<ModelHarness>> harnesses_;
};

// One request's output against its solo runs. Every method gives "", or what is wrong.
class RequestCheck {
 public:
  RequestCheck(const MixEngine& engine, const MixRequest& mixed, const MixOutput& output,
               const Tokenizer& tokenizer, SoloRuns& solo)
      : engine_(engine),
        mixed_(mixed),
        request_(mixed.request),
        output_(output),
        tokenizer_(tokenizer),
        solo_(solo) {}

  std::string Check() {
    std::string wrong = CheckEnd();
    for (size_t choice = 0; choice < output_.choices.size() && wrong.empty(); ++choice) {
      wrong = CheckChoice(choice);
      if (!wrong.empty()) wrong = absl::StrCat("continuation ", choice, ": ", wrong);
    }
    return wrong;
  }

 private:
  bool was_cancelled() const { return !output_.status.ok(); }

  std::string CheckEnd() const {
    if (was_cancelled()) {
      const bool may_be = mixed_.cancelled_in_step.has_value() && absl::IsCancelled(output_.status);
      return may_be ? "" : output_.status.ToString();
    }
    if (!output_.prompt.has_value()) return "nothing about the prompt";
    const bool may_take_cached =
        engine_.prefix_cache && !request_.cache.bypass && !request_.needs_every_position();
    if (!may_take_cached && output_.prompt->cached_tokens != 0) return "took cached tokens";
    return "";
  }

  std::string CheckChoice(size_t choice_index) {
    MixChoice choice = output_.choices[choice_index];
    std::string wrong = TakeEcho(choice);
    if (wrong.empty()) wrong = CheckFinish(choice);
    if (!wrong.empty()) return wrong;
    const HarnessOutput alone = solo_.Run(engine_, request_, choice_index, choice.token_ids.size());
    if (choice_index == 0 && output_.prompt.has_value()) {
      wrong = CompareLogprobs(alone.prompt_logprobs, output_.prompt->logprobs);
      if (wrong.empty() && choice.finish.has_value() && !choice.token_ids.empty() &&
          request_.response.num_prompt_logprobs >= 0 &&
          output_.prompt->logprobs.size() + 1 != request_.prompt_token_ids.size()) {
        wrong = absl::StrCat("only ", output_.prompt->logprobs.size());
      }
      if (!wrong.empty()) return absl::StrCat("prompt logprobs: ", wrong);
    }
    wrong = CompareTokens(alone, choice);
    if (wrong.empty()) wrong = CheckText(alone, choice);
    if (wrong.empty()) wrong = CheckRouting(alone, choice_index, choice);
    return wrong;
  }

  // Takes the prompt off the front.
  std::string TakeEcho(MixChoice& choice) const {
    if (!request_.response.echo || choice.token_ids.empty()) return "";
    const std::vector<int32_t>& prompt = request_.prompt_token_ids;
    const auto size = static_cast<int64_t>(prompt.size());
    if (choice.token_ids.size() < prompt.size() ||
        !std::equal(prompt.begin(), prompt.end(), choice.token_ids.begin())) {
      return "does not begin with the prompt";
    }
    choice.token_ids.erase(choice.token_ids.begin(), choice.token_ids.begin() + size);
    if (request_.response.num_logprobs < 0) return "";
    // A prompt that the time did not suffice for has fewer, and nothing follows.
    const auto num_echoed = std::min(size - 1, static_cast<int64_t>(choice.logprobs.size()));
    choice.logprobs.erase(choice.logprobs.begin(), choice.logprobs.begin() + num_echoed);
    return "";
  }

  std::string CheckFinish(const MixChoice& choice) const {
    const StoppingParams& stopping = request_.stopping;
    const auto num_tokens = static_cast<int32_t>(choice.token_ids.size());
    for (int32_t i = 0; i + 1 < num_tokens; ++i) {
      if (EndsIt(stopping, choice.token_ids[static_cast<size_t>(i)])) return "goes on after a stop";
    }
    if (!choice.finish.has_value()) return was_cancelled() ? "" : "did not end";
    const ChoiceFinish& finish = *choice.finish;
    if (finish.completion_tokens != num_tokens) return "another number of tokens than it says";
    switch (finish.reason) {
      case FinishReason::kLength:
        return num_tokens == stopping.max_tokens ? "" : "ended by its length too early";
      case FinishReason::kTimeLimit:
        return stopping.time_limit.has_value() ? "" : "ended by a time limit that it has not";
      case FinishReason::kStop:
        if (num_tokens <= stopping.min_tokens) return "stopped before min_tokens";
        if (!finish.matched_stop_string.empty()) return "";
        if (EndsIt(stopping, choice.token_ids.back()) &&
            choice.token_ids.back() == finish.matched_token_id) {
          return "";
        }
        return "stopped for no reason";
    }
    return "ended for an unknown reason";
  }

  static std::string CompareLogprobs(const std::vector<SampledToken>& expected,
                                     const std::vector<TokenLogprob>& actual) {
    if (actual.size() > expected.size()) return "too many";
    for (size_t i = 0; i < actual.size(); ++i) {
      const std::string difference = Difference(expected[i], {.token_id = actual[i].token_id,
                                                              .logprob = actual[i].logprob,
                                                              .top_logprobs = actual[i].top});
      if (!difference.empty()) return absl::StrCat("place ", i, ": ", difference);
    }
    return "";
  }

  std::string CompareTokens(const HarnessOutput& alone, const MixChoice& choice) const {
    for (size_t i = 0; i < choice.token_ids.size(); ++i) {
      const std::string difference =
          TokenDifference(alone.tokens.at(i).token_id, choice.token_ids[i]);
      if (!difference.empty()) return absl::StrCat("token ", i, ": ", difference);
    }
    if (request_.response.num_logprobs < 0) return "";
    if (choice.logprobs.size() != choice.token_ids.size()) return "a token without its logprob";
    return CompareLogprobs(alone.tokens, choice.logprobs);
  }

  // The text of the tokens that it has alone.
  std::string CheckText(const HarnessOutput& alone, const MixChoice& choice) const {
    if (!choice.finish.has_value()) return "";
    SequenceOutput sequence(request_, &tokenizer_);
    std::string text;
    for (size_t i = 0; i < alone.tokens.size(); ++i) {
      if (sequence.matched_stop_string()) return "goes on after a stop string";
      SequenceOutput::Last last = SequenceOutput::Last::kNo;
      if (EndsIt(request_.stopping, alone.tokens[i].token_id)) {
        last = SequenceOutput::Last::kYesStopToken;
      } else if (static_cast<int32_t>(i) + 1 == request_.stopping.max_tokens) {
        last = SequenceOutput::Last::kYes;
      }
      text += sequence.Append(alone.tokens[i], last).text;
    }
    if (choice.finish->reason == FinishReason::kTimeLimit) text += sequence.Finish().text;
    if (choice.finish->matched_stop_string != sequence.matched_stop_string().value_or("")) {
      return absl::StrCat("matched \"", choice.finish->matched_stop_string, "\" for \"",
                          sequence.matched_stop_string().value_or(""), "\"");
    }
    const bool is_same =
        request_.response.echo ? absl::EndsWith(choice.text, text) : choice.text == text;
    return is_same ? "" : absl::StrCat("text \"", choice.text, "\" for \"", text, "\"");
  }

  // [rows, layers, k] of the prompt, which choice 0 has, and of all its tokens but the last.
  std::string CheckRouting(const HarnessOutput& alone, size_t choice_index,
                           const MixChoice& choice) const {
    if (!request_.response.routed_experts) {
      return choice.routed_experts.empty() ? "" : "experts that nobody asked for";
    }
    const size_t num_rows = request_.prompt_token_ids.size() + alone.tokens.size() -
                            std::min<size_t>(alone.tokens.size(), 1);
    const size_t row_size = alone.routed_experts.size() / num_rows;
    const size_t skipped = choice_index == 0 ? 0 : request_.prompt_token_ids.size() * row_size;
    const size_t num_expected = alone.routed_experts.size() - skipped;
    const bool has_all =
        choice.finish.has_value() && choice.finish->reason != FinishReason::kTimeLimit;
    if (choice.routed_experts.size() > num_expected ||
        (has_all && choice.routed_experts.size() != num_expected)) {
      return absl::StrCat(choice.routed_experts.size(), " routed experts for ", num_expected);
    }
    const auto begin = alone.routed_experts.begin() + static_cast<int64_t>(skipped);
    const bool is_same =
        std::equal(choice.routed_experts.begin(), choice.routed_experts.end(), begin);
    return is_same ? "" : "other routed experts";
  }

  const MixEngine& engine_;
  const MixRequest& mixed_;
  const GenerationRequest& request_;
  const MixOutput& output_;
  const Tokenizer& tokenizer_;
  SoloRuns& solo_;
};

TEST(RequestMixTest, EveryRequestGetsWhatItGetsAlone) {
  const GoldenModel model = DemoModel();
  ASSERT_NE(model.weights, nullptr);
  auto tokenizer = Tokenizer::Load(std::string(MOED_SOURCE_DIR) + "/models/demo/tokenizer.model");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  SoloRuns solo(model);
  const uint64_t num_mixes = FromEnvironment("MOED_MIXES", kDefaultMixes);
  const uint64_t first = FromEnvironment("MOED_FIRST_MIX", 1);

  MixCounts total;
  size_t num_requests = 0;
  size_t num_tokens = 0;
  const auto start = std::chrono::steady_clock::now();
  for (uint64_t seed = first; seed < first + num_mixes; ++seed) {
    const RequestMix mix = DrawRequestMix(seed, model.config);
    const auto run = RunMix(mix, model, **tokenizer);
    ASSERT_TRUE(run.ok()) << "mix " << seed << ": " << run.status();
    ASSERT_EQ(run->violation, "") << "mix " << seed << ": " << EngineText(mix.engine);
    for (size_t i = 0; i < mix.requests.size(); ++i) {
      RequestCheck check(mix.engine, mix.requests[i], run->outputs[i], **tokenizer, solo);
      ASSERT_EQ(check.Check(), "")
          << "mix " << seed << " (again: MOED_FIRST_MIX=" << seed << " MOED_MIXES=1)\n"
          << EngineText(mix.engine) << "\n"
          << RequestText(mix.requests[i]);
      for (const MixChoice& choice : run->outputs[i].choices) num_tokens += choice.token_ids.size();
    }
    total.Add(run->counts);
    num_requests += mix.requests.size();
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::cout << num_mixes << " mixes from seed " << first << ": " << num_requests << " requests, "
            << num_tokens << " tokens, " << total.steps << " steps, " << total.rows << " rows, "
            << total.preemptions << " preemptions, " << total.cache_hits << " cache hits ("
            << total.cached_tokens << " of " << total.prompt_tokens << " prompt tokens), "
            << total.forks << " forks, " << total.block_copies << " block copies in " << seconds
            << " s\n";
  if (num_mixes < 20) return;
  // Else little is held.
  EXPECT_GT(total.preemptions, 0);
  EXPECT_GT(total.cache_hits, 0);
  EXPECT_GT(total.forks, 0);
  EXPECT_GT(total.block_copies, 0);
}

}  // namespace
}  // namespace moed
