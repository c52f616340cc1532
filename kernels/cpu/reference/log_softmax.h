// Log-softmax of one row of raw logits, as Sample and TokenLogprobs report it.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/reference/reference_ops.h"

namespace moed::reference {

// A NaN logit counts as -infinity, +infinity as the largest float.
float Tame(float logit);

// By falling logit, ties to the lower id.
bool Falls(const Candidate& a, const Candidate& b);

// Sets probability to exp((logit - largest) / temperature) of candidates that fall; -infinity gives
// 0, unless all are. Returns the sum.
double SetWeights(std::vector<Candidate>& candidates, float temperature);

class LogSoftmax {
 public:
  // Sorts the tamed logits into `falling`, of capacity vocab or more. vocab > 0.
  LogSoftmax(const float* logits, int64_t vocab, std::vector<Candidate>& falling);

  float Of(float logit) const;
  // The kMaxLogprobs most likely ids and their logprobs; -1 and -infinity past the vocabulary.
  void WriteTop(int32_t* ids, float* logprobs) const;

 private:
  const std::vector<Candidate>& falling_;
  const double log_sum_;
};

}  // namespace moed::reference
