// What the tests of Sample share: calling it, and what it must give, in double and plain loops.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/kernels/cpu/kernel_test.h"

namespace moed {

// Logits are float32 whatever the activations are: one dtype of every kind of kernels is enough.
std::vector<KernelCase> SampleKernelCases();

struct Sampled {
  Tensor tokens, logprobs, top_ids, top_logprobs, last_sampled;
};
// All slots of last_sampled [64] are -7 before.
Sampled SampleRows(Backend& backend, Stream& stream, const ConstTensorView& logits,
                   const std::vector<SamplingRow>& rows);
// The token of one row.
int32_t SampleOne(Backend& backend, Stream& stream, const std::vector<float>& logits,
                  const SamplingRow& row);

SamplingRow Row(float temperature, int32_t top_k = 0, float top_p = 1, float min_p = 0);

// A row with the lists that its spans point to.
struct RowWithLists {
  SamplingRow row;
  std::vector<SeenToken> seen;
  std::vector<TokenBias> logit_bias;
  std::vector<int32_t> allowed;
  std::vector<int32_t> suppressed;

  // Valid while this lives unchanged.
  SamplingRow Get() const;
};
std::string Describe(const SamplingRow& row);

// Steps 1 to 4 of SamplingRow: -infinity where a token is removed. NaN counts as -infinity, and
// finite logits stay in the range of float32.
std::vector<double> WantedLogits(const std::vector<float>& raw, const SamplingRow& row);

// Step 5 for a temperature above 0.
enum class Cut { kTopK, kTopP, kMinP, kTypical };
struct WantedDistribution {
  std::vector<double> probability;  // [vocab], 0 where a token is cut
  double margin = 1;                // how near a cut is to falling otherwise
};
WantedDistribution CutLogits(const std::vector<double>& logits, const SamplingRow& row,
                             const std::vector<Cut>& order = {Cut::kTopK, Cut::kTopP, Cut::kMinP,
                                                              Cut::kTypical});

// All steps. `margin`: how near the token is to being another; exact ties do not count.
struct WantedToken {
  int32_t id = 0;
  double margin = 1;
};
WantedToken TokenOf(const std::vector<float>& raw, const SamplingRow& row);

// Pearson's test of counts against probabilities; tokens of probability 0 must not have come.
// The statistic of k degrees of freedom exceeds k + 2 sqrt(k x) + 2 x with a probability of at most
// exp(-x) (Laurent and Massart 2000, lemma 1); x = 20 makes a false alarm a matter of 2e-9.
void ExpectCounts(const std::vector<int>& counts, const std::vector<double>& probabilities,
                  const std::string& what);

}  // namespace moed
