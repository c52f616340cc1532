// A small model as the front ends see it, without weights.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/state/served_model.h"
#include "tests/support/tiny_tokenizer.h"

namespace moed {

inline constexpr int kTestVocab = 300;
inline constexpr int kTestContext = 32;

// Vocabulary 300, context 32, 2 layers of 4 experts; "ab" is one piece, other text is bytes.
inline std::shared_ptr<ServedModel> MakeServedModel(bool with_tokenizer = true) {
  auto model = std::make_shared<ServedModel>();
  model->name = "test-model";
  model->config.architecture = "MixtralForCausalLM";
  model->config.vocab_size = kTestVocab;
  model->config.num_layers = 2;
  model->config.num_experts = 4;
  model->config.top_k = 2;
  model->config.max_positions = kTestContext;
  model->config.eos_token_ids = {kTinyEos};
  model->context_tokens = kTestContext;
  model->block_tokens = 16;
  model->backend = "none";
  if (with_tokenizer) {
    model->tokenizer = MakeTinyTokenizer({"a", "b", "ab"});
    model->chat_format = ChatFormat::MistralV1(model->tokenizer.get()).value();
  }
  return model;
}

}  // namespace moed
