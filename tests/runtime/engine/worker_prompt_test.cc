// Log probabilities of a prompt's tokens, against the log-softmax of a whole forward pass.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/runtime/engine/worker_harness.h"

namespace moed {
namespace {

// Of the logits that follow each prefix of the prompt but the whole, in double.
std::vector<std::vector<double>> PlainLogprobs(HarnessRequest request) {
  HarnessOptions options = SmallHarnessOptions(1);
  options.capture_logits = true;
  request.num_tokens = 0;
  request.chunk_tokens = 0;
  request.init.num_prompt_logprobs = -1;
  request.init.sampling.n = 1;
  for (size_t i = 0; i + 1 < request.prompt.size(); ++i) {
    request.logit_positions.push_back(static_cast<int32_t>(i));
  }
  const HarnessRun run = RunRequests(options, {request});
  std::vector<std::vector<double>> logprobs;
  for (const auto& [position, logits] : run.outputs.at(0).logits) {
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    std::vector<double>& row = logprobs.emplace_back();
    for (const float logit : logits) row.push_back(static_cast<double>(logit) - std::log(sum));
  }
  return logprobs;
}

void ExpectPromptLogprobs(const HarnessRequest& request, const HarnessOutput& output,
                          const std::string& place) {
  const std::vector<std::vector<double>> expected = PlainLogprobs(request);
  ASSERT_EQ(output.prompt_logprobs.size(), request.prompt.size() - 1) << place;
  for (size_t i = 0; i < expected.size(); ++i) {
    const SampledToken& token = output.prompt_logprobs[i];
    const std::vector<double>& row = expected[i];
    const std::string at = absl::StrCat(place, ", place ", i);
    EXPECT_EQ(token.token_id, request.prompt[i + 1]) << at;
    EXPECT_NEAR(token.logprob, row[static_cast<size_t>(token.token_id)], 1e-5) << at;
    std::vector<int32_t> ids(row.size());
    std::iota(ids.begin(), ids.end(), 0);
    std::stable_sort(ids.begin(), ids.end(), [&row](int32_t a, int32_t b) {
      return row[static_cast<size_t>(a)] > row[static_cast<size_t>(b)];
    });
    ASSERT_EQ(token.top_logprobs.size(), static_cast<size_t>(request.init.num_prompt_logprobs))
        << at;
    for (size_t t = 0; t < token.top_logprobs.size(); ++t) {
      EXPECT_EQ(token.top_logprobs[t].first, ids[t]) << at << ", alternative " << t;
      EXPECT_NEAR(token.top_logprobs[t].second, row[static_cast<size_t>(ids[t])], 1e-5) << at;
    }
  }
}

// More scored rows in a step than there are slots, and so more than the logits hold at a time.
TEST(WorkerPromptTest, LogprobsAreTheLogSoftmaxOfAWholeForwardPass) {
  std::vector<HarnessRequest> requests;
  for (const int32_t length : {1, 2, 17, 30}) {
    HarnessRequest& request =
        requests.emplace_back(SmallRequest(length, 3, static_cast<uint64_t>(length)));
    request.init.num_prompt_logprobs = length == 17 ? 20 : length == 2 ? 0 : 4;
    request.init.num_logprobs = length == 30 ? 2 : -1;
    request.init.sampling.n = length == 30 ? 3 : 1;
    request.init.experts_per_token = length == 17 ? 3 : 0;
    request.home_rank = length;
  }
  for (const int num_ranks : {1, 2}) {
    for (const int32_t chunk_tokens : {0, 1, 7}) {
      HarnessOptions options = SmallHarnessOptions(num_ranks);
      options.max_sequences = 6;
      for (HarnessRequest& request : requests) request.chunk_tokens = chunk_tokens;
      const HarnessRun run = RunRequests(options, requests);
      ASSERT_EQ(run.outputs.size(), requests.size());
      for (size_t i = 0; i < requests.size(); ++i) {
        const std::string place = absl::StrCat(num_ranks, " ranks, chunks of ", chunk_tokens,
                                               ", prompt of ", requests[i].prompt.size());
        ExpectPromptLogprobs(requests[i], run.outputs[i], place);
        // Scoring does not touch what is drawn.
        HarnessRequest unscored = requests[i];
        unscored.init.num_prompt_logprobs = -1;
        ExpectSame(run.outputs[i], RunRequests(options, {unscored}).outputs.at(0), place);
      }
    }
  }
}

}  // namespace
}  // namespace moed
