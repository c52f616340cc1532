// What a request must get, computed for it alone: everything from the beginning, one token after
// the other, and stop strings looked for in the whole text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/schedule/request.h"
#include "runtime/tokenizer/tokenizer.h"
#include "tests/support/fake_model.h"

namespace moed {

// The simulation's own; the ids of a FakeModel with vocab_size() as its vocab.
const Tokenizer& SimulationTokenizer();

struct SoloText {
  std::string text;  // without the prompt's
  std::string matched_stop_string;
  int32_t num_tokens = 0;  // up to the one that completed the stop string, or all
};

// The text of the first `num_tokens` of `tokens`, after which the continuation ends: by its stop
// token, where `ends_by_stop_token`; by time, where `ends_by_time`; else by its length.
SoloText TextOfTokens(const GenerationRequest& request, const std::vector<SampledToken>& tokens,
                      int32_t num_tokens, bool ends_by_stop_token, bool ends_by_time);

// The text that echo puts first.
std::string EchoText(const GenerationRequest& request);

// One continuation, from its first token to its end.
class SoloChoice {
 public:
  SoloChoice(const FakeModel& model, const GenerationRequest& request, int32_t choice);

  // What the scheduler must see: it knows no stop strings.
  const std::vector<SampledToken>& tokens() const { return solo_.tokens; }
  bool ends_by_stop_token() const { return solo_.is_stop_token; }
  const std::vector<SampledToken>& prompt_logprobs() const { return solo_.prompt_logprobs; }
  // [tokens, num_layers, experts_per_token] of the prompt and of all tokens but the last.
  const std::vector<int16_t>& routed_experts() const { return solo_.routed_experts; }
  int64_t dropped_pairs() const { return solo_.dropped_pairs; }  // of the same rows
  int32_t experts_per_token() const { return solo_.experts_per_token(); }
  // What the client must see.
  const SoloText& text() const { return text_; }

 private:
  FakeSolo solo_;
  SoloText text_;
};

}  // namespace moed
