#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/core/check.h"
#include "kernels/core/philox.h"
#include "kernels/cpu/reference/reference_ops.h"

namespace moed::reference {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

bool Falls(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// A NaN logit counts as -infinity, +infinity as the largest float.
float Tame(float logit) {
  if (std::isnan(logit)) return -kInfinity;
  return std::min(logit, std::numeric_limits<float>::max());
}

// Sets probability to exp((logit - largest) / temperature); -infinity gives 0, unless all are.
void SetWeights(std::vector<Candidate>& candidates, float temperature) {
  const float largest = candidates.front().logit;
  for (Candidate& candidate : candidates) {
    const double difference =
        candidate.logit == largest ? 0.0 : static_cast<double>(candidate.logit) - largest;
    candidate.probability = std::exp(difference / temperature);
  }
}

double Sum(const std::vector<Candidate>& candidates) {
  double sum = 0;
  for (const Candidate& candidate : candidates) sum += candidate.probability;
  return sum;
}

// `candidates` fall, and are cut in place.
int32_t Draw(std::vector<Candidate>& candidates, const SamplingRow& row) {
  if (row.top_k > 0 && row.top_k < static_cast<int64_t>(candidates.size())) {
    candidates.resize(static_cast<size_t>(row.top_k));
  }
  SetWeights(candidates, row.temperature);
  if (row.top_p < 1.0F) {
    const double wanted = row.top_p * Sum(candidates);
    double cumulative = 0;
    size_t kept = 0;
    while (kept < candidates.size() && (kept == 0 || cumulative < wanted)) {
      cumulative += candidates[kept++].probability;
    }
    candidates.resize(kept);
  }
  while (candidates.size() > 1 && candidates.back().probability < row.min_p) candidates.pop_back();
  const double wanted = UniformForToken(row.seed, row.choice_index, row.position) * Sum(candidates);
  double cumulative = 0;
  int32_t drawn = candidates.front().id;
  for (const Candidate& candidate : candidates) {
    if (candidate.probability == 0) break;
    drawn = candidate.id;
    cumulative += candidate.probability;
    if (cumulative > wanted) break;
  }
  return drawn;
}

}  // namespace

void Sample(const SampleArgs& args, Scratch& scratch) {
  const int64_t vocab = args.logits.dim(1);
  MOED_CHECK(args.rows.empty() || vocab <= static_cast<int64_t>(scratch.candidates.capacity()),
             "Sample: vocab exceeds the workspace's limits");
  for (size_t r = 0; r < args.rows.size(); ++r) {
    const SamplingRow& row = args.rows[r];
    const float* logits = args.logits.data<float>() + static_cast<int64_t>(r) * vocab;
    std::vector<Candidate>& all = scratch.alternatives;
    std::vector<Candidate>& allowed = scratch.candidates;
    all.clear();
    allowed.clear();
    for (int32_t id = 0; id < vocab; ++id) {
      all.push_back({Tame(logits[id]), id, 0});
    }
    constexpr double kSuppressed = -1;
    for (const int32_t id : row.suppressed_token_ids) {
      MOED_CHECK(id >= 0 && id < vocab, "Sample: a suppressed token id is out of range");
      all[static_cast<size_t>(id)].probability = kSuppressed;
    }
    for (const Candidate& candidate : all) {
      if (candidate.probability != kSuppressed) allowed.push_back(candidate);
    }
    std::sort(all.begin(), all.end(), Falls);
    std::sort(allowed.begin(), allowed.end(), Falls);

    int32_t token = 0;  // where all are suppressed
    if (!allowed.empty()) {
      const bool greedy = row.temperature == 0 || allowed.front().logit == -kInfinity;
      token = greedy ? allowed.front().id : Draw(allowed, row);
    }
    SetWeights(all, 1.0F);
    const double log_sum = std::log(Sum(all));
    const auto logprob = [&](float logit) {
      if (logit == -kInfinity) return -kInfinity;
      return static_cast<float>(static_cast<double>(logit) - all.front().logit - log_sum);
    };
    args.token_ids.data<int32_t>()[r] = token;
    args.last_sampled.data<int32_t>()[row.slot] = token;
    args.logprobs.data<float>()[r] = logprob(Tame(logits[token]));
    if (!args.want_top) continue;
    for (int64_t i = 0; i < kMaxLogprobs; ++i) {
      const int64_t at = static_cast<int64_t>(r) * kMaxLogprobs + i;
      const bool exists = i < vocab;
      const Candidate& best = all[static_cast<size_t>(exists ? i : 0)];
      args.top_ids.data<int32_t>()[at] = exists ? best.id : -1;
      args.top_logprobs.data<float>()[at] = exists ? logprob(best.logit) : -kInfinity;
    }
  }
}

}  // namespace moed::reference
