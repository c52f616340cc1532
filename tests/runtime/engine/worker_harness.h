// A small model on the harness, and requests for it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/runtime/engine/worker_group_fixture.h"
#include "tests/support/model_harness.h"

namespace moed {

inline HarnessOptions SmallHarnessOptions(int num_ranks) {
  HarnessOptions options;
  options.config = SmallConfig();
  options.weights = std::make_shared<DummyWeightSource>(/*seed=*/3, DType::kFloat32);
  options.num_ranks = num_ranks;
  options.block_size = 4;
  options.num_kv_blocks = 128;
  options.max_sequences = 12;
  options.max_rows = 128;
  options.max_experts_per_token = 4;
  return options;
}

inline HarnessRun RunRequests(const HarnessOptions& options,
                              const std::vector<HarnessRequest>& requests) {
  auto harness = ModelHarness::Create(options);
  EXPECT_TRUE(harness.ok()) << harness.status();
  if (!harness.ok()) return {};
  auto run = (*harness)->Run(requests);
  EXPECT_TRUE(run.ok()) << run.status();
  return run.ok() ? *std::move(run) : HarnessRun();
}

// A prompt of `length` tokens and a draw at temperature 1.
inline HarnessRequest SmallRequest(int32_t length, int32_t num_tokens, uint64_t seed) {
  HarnessRequest request;
  for (int32_t i = 0; i < length; ++i) {
    request.prompt.push_back(
        static_cast<int32_t>((seed * 31 + static_cast<uint64_t>(i * 17)) % 96));
  }
  request.num_tokens = num_tokens;
  request.init.sampling.seed = seed;
  return request;
}

inline std::vector<int32_t> TokenIds(const HarnessOutput& output) {
  std::vector<int32_t> ids;
  for (const SampledToken& token : output.tokens) ids.push_back(token.token_id);
  return ids;
}

inline std::vector<float> Logprobs(const HarnessOutput& output) {
  std::vector<float> logprobs;
  for (const SampledToken& token : output.tokens) logprobs.push_back(token.logprob);
  return logprobs;
}

// Tokens and their log probabilities are equal to the bit (none is a zero or not a number).
inline void ExpectSame(const HarnessOutput& actual, const HarnessOutput& expected,
                       const std::string& place) {
  EXPECT_EQ(TokenIds(actual), TokenIds(expected)) << place;
  EXPECT_EQ(Logprobs(actual), Logprobs(expected)) << place;
}

}  // namespace moed
