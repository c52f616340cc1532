// A model that computes nothing: what it draws is a function of all tokens before, and of all that
// the request asks for, so that whoever mixes up contexts or parameters gets other tokens.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "runtime/schedule/batch_plan.h"
#include "runtime/schedule/request.h"

namespace moed {

struct FakeModel {
  int32_t vocab = 1000;
  int num_layers = 2;
  int num_experts = 4;
  int32_t experts_per_token = 1;  // of a request that does not say
  bool drops_pairs = false;       // as with a capacity factor, though by the row's content alone
};

// splitmix64's finaliser over a sum that does not commute.
inline uint64_t FakeMix(uint64_t a, uint64_t b) {
  uint64_t x = (a ^ 0x6A09E667F3BCC909u) * 0x9E3779B97F4A7C15u + b + 1;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// What stands in the KV cache at a position: a hash of the k of the router and of all tokens up to
// there. Position 0 follows the root.
inline uint64_t FakeRoot(int32_t experts_per_token) {
  return FakeMix(0x726F6F74, experts_per_token);
}
inline uint64_t FakeEntry(uint64_t previous, int32_t token) { return FakeMix(previous, token); }

// What attention reads: folds the entries of all positions, in order, from 0.
inline uint64_t FakeAttend(uint64_t reading, uint64_t entry) { return FakeMix(reading, entry); }

// Everything that says how to draw, besides the context.
inline uint64_t FakeParametersHash(const SamplingParams& sampling) {
  uint64_t hash = FakeMix(sampling.seed, static_cast<uint64_t>(sampling.top_k));
  const auto add = [&hash](float value) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    hash = FakeMix(hash, bits);
  };
  for (const float value :
       {sampling.temperature, sampling.top_p, sampling.min_p, sampling.typical_p,
        sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty}) {
    add(value);
  }
  for (const TokenBias& bias : sampling.logit_bias) {
    hash = FakeMix(hash, bias.token_id);
    add(bias.bias);
  }
  for (const int32_t id : sampling.allowed_token_ids) hash = FakeMix(hash, id);
  for (const std::vector<int32_t>& word : sampling.bad_words) {
    for (const int32_t id : word) hash = FakeMix(hash, id);
  }
  return hash;
}

// The tokens that penalties and bad words look back at; stays as it is where nothing does.
struct FakeHistory {
  uint64_t hash = 0;
  void Add(const SamplingParams& sampling, int32_t token) {
    if (NeedsHistory(sampling)) hash = FakeMix(hash, token);
  }
};

inline float FakeLogprob(uint64_t hash) {
  return -static_cast<float>(FakeMix(hash, 7) % 10000) / 1000.0F;
}

inline void FakeTopLogprobs(const FakeModel& model, int32_t count, SampledToken* sample) {
  for (int32_t i = 0; i < count; ++i) {
    sample->top_logprobs.push_back({(sample->token_id + i) % model.vocab, sample->logprob - i});
  }
}

// The token after `reading`. `slot` is left to the caller.
inline SampledToken FakeDraw(const FakeModel& model, uint64_t reading, const FakeHistory& history,
                             const SamplingParams& sampling, uint32_t choice, int64_t position,
                             const std::vector<int32_t>& suppressed, int32_t num_logprobs) {
  uint64_t hash = FakeMix(FakeMix(reading, history.hash), FakeParametersHash(sampling));
  hash = FakeMix(FakeMix(hash, choice), static_cast<uint64_t>(position));
  SampledToken sample;
  sample.token_id = static_cast<int32_t>(hash % static_cast<uint64_t>(model.vocab));
  while (std::find(suppressed.begin(), suppressed.end(), sample.token_id) != suppressed.end()) {
    sample.token_id = (sample.token_id + 1) % model.vocab;
  }
  sample.logprob = FakeLogprob(hash);
  FakeTopLogprobs(model, num_logprobs, &sample);
  return sample;
}

// The log probability of a prompt's token after `reading`.
inline SampledToken FakePromptLogprob(const FakeModel& model, uint64_t reading, int32_t target,
                                      int32_t num_logprobs) {
  SampledToken sample;
  sample.token_id = target;
  sample.logprob = FakeLogprob(FakeMix(reading, target));
  FakeTopLogprobs(model, num_logprobs, &sample);
  return sample;
}

// The k experts of a row in a layer, in the order of choice.
inline int32_t FakeExpert(const FakeModel& model, uint64_t reading, int layer, int choice) {
  return static_cast<int32_t>((FakeMix(reading, layer) + choice) % model.num_experts);
}

inline int64_t FakeDroppedPairs(const FakeModel& model, uint64_t reading) {
  return model.drops_pairs && reading % 8 == 0 ? 1 : 0;
}

// One continuation of a request that is alone, token by token: the oracle of every schedule. Knows
// no stop strings and no time.
class FakeSolo {
 public:
  FakeSolo(const FakeModel& model, const GenerationRequest& request, int32_t choice)
      : model_(model), request_(request), choice_(choice) {
    experts_per_token_ =
        request.experts_per_token > 0 ? request.experts_per_token : model.experts_per_token;
    entry_ = FakeRoot(experts_per_token_);
    stops_ = request.stopping.eos_token_ids;
    stops_.insert(stops_.end(), request.stopping.stop_token_ids.begin(),
                  request.stopping.stop_token_ids.end());
    const std::vector<int32_t>& prompt = request.prompt_token_ids;
    for (size_t i = 0; i < prompt.size(); ++i) {
      Feed(prompt[i]);
      if (i + 1 == prompt.size()) break;
      prompt_logprobs.push_back(
          FakePromptLogprob(model, reading_, prompt[i + 1], request.response.num_prompt_logprobs));
    }
  }

  // False: the last one ended it.
  bool Next() {
    if (is_finished_) return false;
    if (!tokens.empty()) Feed(tokens.back().token_id);
    const auto num_drawn = static_cast<int32_t>(tokens.size());
    const bool suppress = num_drawn < request_.stopping.min_tokens;
    tokens.push_back(FakeDraw(
        model_, reading_, history_, request_.sampling, static_cast<uint32_t>(choice_), position_,
        suppress ? stops_ : std::vector<int32_t>(), request_.response.num_logprobs));
    const int32_t token = tokens.back().token_id;
    is_stop_token = std::find(stops_.begin(), stops_.end(), token) != stops_.end();
    is_finished_ = is_stop_token || num_drawn + 1 >= request_.stopping.max_tokens;
    return true;
  }

  std::vector<SampledToken> tokens;
  std::vector<SampledToken> prompt_logprobs;  // of each prompt token but the first
  std::vector<int16_t> routed_experts;        // of every row up to now
  int64_t dropped_pairs = 0;                  // of the same rows
  bool is_stop_token = false;                 // the last token is an eos or stop token

  int32_t experts_per_token() const { return experts_per_token_; }

 private:
  void Feed(int32_t token) {
    entry_ = FakeEntry(entry_, token);
    reading_ = FakeAttend(reading_, entry_);
    history_.Add(request_.sampling, token);
    ++position_;
    dropped_pairs += FakeDroppedPairs(model_, reading_);
    for (int layer = 0; layer < model_.num_layers; ++layer) {
      for (int32_t i = 0; i < experts_per_token_; ++i) {
        routed_experts.push_back(static_cast<int16_t>(FakeExpert(model_, reading_, layer, i)));
      }
    }
  }

  const FakeModel model_;
  const GenerationRequest& request_;
  const int32_t choice_;
  int32_t experts_per_token_ = 0;
  std::vector<int32_t> stops_;
  uint64_t entry_ = 0;
  uint64_t reading_ = 0;
  FakeHistory history_;
  int64_t position_ = 0;
  bool is_finished_ = false;
};

// The token ids that a request gets when it is alone.
inline std::vector<int32_t> FakeContinuation(const GenerationRequest& request,
                                             const FakeModel& model, int32_t choice = 0) {
  FakeSolo solo(model, request, choice);
  while (solo.Next()) {
  }
  std::vector<int32_t> ids;
  for (const SampledToken& token : solo.tokens) ids.push_back(token.token_id);
  return ids;
}
inline std::vector<int32_t> FakeContinuation(const GenerationRequest& request, int32_t vocab,
                                             int32_t choice = 0) {
  FakeModel model;
  model.vocab = vocab;
  return FakeContinuation(request, model, choice);
}

}  // namespace moed
