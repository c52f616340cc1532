// One continuation's tokens to deltas.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/output/generation_sink.h"
#include "runtime/output/stop_matcher.h"
#include "runtime/schedule/batch_plan.h"
#include "runtime/schedule/request.h"
#include "runtime/tokenizer/incremental_detokenizer.h"
#include "runtime/tokenizer/tokenizer.h"

namespace moed {

// Detokenises, looks for stop strings and makes deltas. Text comes in whole code points. A request
// without text and stop strings has no detokeniser. One thread at a time.
//
// Stop strings are looked for in the text of the continuation, as it is shown: with special tokens
// where those are not skipped, without the prompt. With include_stop the text ends with the stop
// string or the text of the stop token (which is empty for a special one that is skipped), as
// vLLM's include_stop_str_in_output has it; else before them.
class SequenceOutput {
 public:
  // `tokenizer` must outlive this object. It may be null where NeedsTokenizer says false.
  SequenceOutput(const GenerationRequest& request, const Tokenizer* tokenizer);

  static bool NeedsTokenizer(const GenerationRequest& request) {
    return request.response.text || !request.stopping.stop_strings.empty();
  }

  // How the token is the last one.
  enum class Last : uint8_t {
    kNo,
    kYes,          // of its length: text held back is let through
    kYesStopToken  // the same; an eos or stop token itself has text only with include_stop
  };

  // The delta of one more token. Nothing may follow a last token or a match.
  GenerationDelta Append(const SampledToken& sample, Last last);
  // The same without a token: text held back is let through. It may complete a stop string (with
  // U+FFFD for a code point that was left unfinished).
  GenerationDelta Finish();

  // The stop string that the text matched. The token that completed it was the last.
  const std::optional<std::string>& matched_stop_string() const { return matched_stop_string_; }
  int32_t completion_tokens() const { return completion_tokens_; }

 private:
  // `piece` is what the last token gave.
  void AppendText(std::string piece, bool is_last, std::string* text);

  const bool wants_text_;
  const bool wants_logprobs_;
  const bool include_stop_;
  const int32_t min_tokens_;
  const std::vector<std::string> stop_strings_;
  std::optional<IncrementalDetokenizer> detokenizer_;
  StopMatcher matcher_;
  std::optional<std::string> matched_stop_string_;
  int32_t completion_tokens_ = 0;
};

}  // namespace moed
