#include "kernels/cpu/reference/log_softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace moed::reference {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<Candidate>& SortedRow(const float* logits, int64_t vocab,
                                  std::vector<Candidate>& falling) {
  falling.clear();
  for (int32_t id = 0; id < vocab; ++id) falling.push_back({Tame(logits[id]), id, 0, 0});
  std::sort(falling.begin(), falling.end(), Falls);
  return falling;
}

}  // namespace

float Tame(float logit) {
  if (std::isnan(logit)) return -kInfinity;
  return std::min(logit, std::numeric_limits<float>::max());
}

bool Falls(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

double SetWeights(std::vector<Candidate>& candidates, float temperature) {
  const float largest = candidates.front().logit;
  double sum = 0;
  for (Candidate& candidate : candidates) {
    const double difference =
        candidate.logit == largest ? 0.0 : static_cast<double>(candidate.logit) - largest;
    candidate.probability = std::exp(difference / temperature);
    sum += candidate.probability;
  }
  return sum;
}

LogSoftmax::LogSoftmax(const float* logits, int64_t vocab, std::vector<Candidate>& falling)
    : falling_(SortedRow(logits, vocab, falling)), log_sum_(std::log(SetWeights(falling, 1.0F))) {}

float LogSoftmax::Of(float logit) const {
  const float tamed = Tame(logit);
  if (tamed == -kInfinity) return -kInfinity;
  return static_cast<float>(static_cast<double>(tamed) - falling_.front().logit - log_sum_);
}

void LogSoftmax::WriteTop(int32_t* ids, float* logprobs) const {
  for (size_t i = 0; i < kMaxLogprobs; ++i) {
    const bool exists = i < falling_.size();
    ids[i] = exists ? falling_[i].id : -1;
    logprobs[i] = exists ? Of(falling_[i].logit) : -kInfinity;
  }
}

}  // namespace moed::reference
