// What an engine hands out, in one line each.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "runtime/output/generation_sink.h"

namespace moed {

inline GenerationDelta MakeDelta(std::string text, std::vector<int32_t> token_ids = {}) {
  GenerationDelta delta;
  delta.text = std::move(text);
  delta.token_ids = std::move(token_ids);
  return delta;
}

// The first of a request of three prompt tokens.
inline GenerationDelta FirstDelta(std::string text, std::vector<int32_t> token_ids = {}) {
  GenerationDelta delta = MakeDelta(std::move(text), std::move(token_ids));
  delta.prompt.emplace();
  delta.prompt->prompt_tokens = 3;
  return delta;
}

// The last of a continuation.
inline GenerationDelta LastDelta(std::string text, int32_t completion_tokens, int32_t choice = 0) {
  GenerationDelta delta = MakeDelta(std::move(text));
  delta.choice = choice;
  delta.finish.emplace();
  delta.finish->completion_tokens = completion_tokens;
  return delta;
}

inline GenerationFinish EndedWith(absl::Status status) { return {.status = std::move(status)}; }
inline GenerationFinish Completed() { return EndedWith(absl::OkStatus()); }

}  // namespace moed
