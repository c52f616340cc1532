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

inline GenerationFinish EndedWith(absl::Status status) {
  GenerationFinish finish;
  finish.status = std::move(status);
  return finish;
}

inline GenerationFinish Completed(int32_t completion_tokens) {
  GenerationFinish finish;
  finish.completion_tokens = completion_tokens;
  return finish;
}

}  // namespace moed
