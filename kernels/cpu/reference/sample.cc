#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/core/check.h"
#include "kernels/core/philox.h"
#include "kernels/cpu/reference/log_softmax.h"
#include "kernels/cpu/reference/reference_ops.h"

namespace moed::reference {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

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
    const LogSoftmax softmax(logits, vocab, all);
    std::sort(allowed.begin(), allowed.end(), Falls);

    int32_t token = 0;  // where all are suppressed
    if (!allowed.empty()) {
      const bool greedy = row.temperature == 0 || allowed.front().logit == -kInfinity;
      token = greedy ? allowed.front().id : Draw(allowed, row);
    }
    args.token_ids.data<int32_t>()[r] = token;
    args.last_sampled.data<int32_t>()[row.slot] = token;
    args.logprobs.data<float>()[r] = softmax.Of(logits[token]);
    if (!args.want_top) continue;
    const int64_t top = static_cast<int64_t>(r) * kMaxLogprobs;
    softmax.WriteTop(args.top_ids.data<int32_t>() + top, args.top_logprobs.data<float>() + top);
  }
}

}  // namespace moed::reference
