#include "tests/simulation/solo_oracle.h"

#include "kernels/core/check.h"
#include "runtime/output/sequence_output.h"
#include "runtime/tokenizer/incremental_detokenizer.h"
#include "tests/support/tiny_tokenizer.h"

namespace moed {

const Tokenizer& SimulationTokenizer() {
  static const Tokenizer* const tokenizer = [] {
    std::vector<std::string> pieces = {"\xE2\x96\x81the", "\xC3\xA9", "\xE2\x82\xAC", "STOP"};
    for (char first = 'a'; first <= 'j'; ++first) {
      for (char second = 'a'; second <= 'j'; ++second) pieces.push_back({first, second});
    }
    auto made = Tokenizer::FromBytes(TinyTokenizerBytes(pieces), "simulation tokenizer");
    MOED_CHECK(made.ok(), "the simulation's tokenizer cannot be made");
    return std::move(*made).release();
  }();
  return *tokenizer;
}

SoloText TextOfTokens(const GenerationRequest& request, const std::vector<SampledToken>& tokens,
                      int32_t num_tokens, bool ends_by_stop_token, bool ends_by_time) {
  const StoppingParams& stopping = request.stopping;
  SoloText solo;
  solo.num_tokens = num_tokens;
  if (!SequenceOutput::NeedsTokenizer(request)) return solo;
  const DetokenizeOptions options{request.response.skip_special_tokens};
  IncrementalDetokenizer detokenizer(SimulationTokenizer(), options, request.prompt_token_ids);
  std::string whole;
  // True: a stop string ends in text[begin, end) that is new.
  const auto stops = [&](size_t begin, int32_t completed) {
    if (completed <= stopping.min_tokens) return false;
    for (size_t end = begin + 1; end <= whole.size(); ++end) {
      for (const std::string& stop : stopping.stop_strings) {
        if (stop.size() <= solo.matched_stop_string.size() || stop.size() > end) continue;
        if (whole.compare(end - stop.size(), stop.size(), stop) == 0) {
          solo.matched_stop_string = stop;
        }
      }
      if (solo.matched_stop_string.empty()) continue;
      whole.resize(stopping.include_stop ? end : end - solo.matched_stop_string.size());
      return true;
    }
    return false;
  };
  for (int32_t i = 0; i < num_tokens; ++i) {
    const size_t begin = whole.size();
    const bool is_last = i + 1 == num_tokens;
    const bool is_stop_token = is_last && ends_by_stop_token;
    if (!is_stop_token || stopping.include_stop) detokenizer.Feed(tokens[i].token_id, &whole);
    if (is_last && !ends_by_time) whole += detokenizer.Flush();
    if (!stops(begin, i + 1)) continue;
    solo.num_tokens = i + 1;
    solo.text = whole;
    return solo;
  }
  if (ends_by_time) {
    const size_t begin = whole.size();
    whole += detokenizer.Flush();
    stops(begin, num_tokens);
  }
  solo.text = whole;
  return solo;
}

std::string EchoText(const GenerationRequest& request) {
  const DetokenizeOptions options{request.response.skip_special_tokens};
  IncrementalDetokenizer detokenizer(SimulationTokenizer(), options);
  std::string text;
  for (const int32_t id : request.prompt_token_ids) detokenizer.Feed(id, &text);
  return text;
}

SoloChoice::SoloChoice(const FakeModel& model, const GenerationRequest& request, int32_t choice)
    : solo_(model, request, choice) {
  while (solo_.Next()) {
  }
  text_ = TextOfTokens(request, solo_.tokens, static_cast<int32_t>(solo_.tokens.size()),
                       solo_.is_stop_token, /*ends_by_time=*/false);
}

}  // namespace moed
