#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/core/check.h"
#include "kernels/core/philox.h"
#include "kernels/cpu/adjust_logits.h"
#include "kernels/cpu/reference/log_softmax.h"
#include "kernels/cpu/reference/reference_ops.h"

namespace moed::reference {
namespace {

double Sum(const std::vector<Candidate>& candidates) {
  double sum = 0;
  for (const Candidate& candidate : candidates) sum += candidate.probability;
  return sum;
}

// Keeps the first candidates whose probabilities reach `share` of all, at least one.
void KeepShare(std::vector<Candidate>& candidates, double share) {
  const double wanted = share * Sum(candidates);
  double cumulative = 0;
  size_t kept = 0;
  while (kept < candidates.size() && (kept == 0 || cumulative < wanted)) {
    cumulative += candidates[kept++].probability;
  }
  candidates.resize(kept);
}

// `candidates` fall before and after.
void KeepTypical(std::vector<Candidate>& candidates, double share) {
  const double total = Sum(candidates);
  double entropy = 0;
  for (const Candidate& candidate : candidates) {
    const double p = candidate.probability / total;
    if (p > 0) entropy -= p * std::log(p);
  }
  for (Candidate& candidate : candidates) {
    candidate.oddity = std::abs(-std::log(candidate.probability / total) - entropy);
  }
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.oddity != b.oddity ? a.oddity < b.oddity : Falls(a, b);
  });
  KeepShare(candidates, share);
  std::sort(candidates.begin(), candidates.end(), Falls);
}

// `candidates` fall, and are cut in place.
int32_t Draw(std::vector<Candidate>& candidates, const SamplingRow& row) {
  if (row.top_k > 0 && row.top_k < static_cast<int64_t>(candidates.size())) {
    candidates.resize(static_cast<size_t>(row.top_k));
  }
  SetWeights(candidates, row.temperature);
  if (row.top_p < 1.0F) KeepShare(candidates, row.top_p);
  while (candidates.size() > 1 && candidates.back().probability < row.min_p) candidates.pop_back();
  if (row.typical_p < 1.0F) KeepTypical(candidates, row.typical_p);
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

// Step 4 of SamplingRow: what it leaves of `logits`, by falling logit.
void KeepAllowed(const SamplingRow& row, const std::vector<float>& logits, int64_t vocab,
                 std::vector<bool>& removed, std::vector<Candidate>& candidates) {
  for (int32_t id = 0; id < vocab; ++id) {
    removed[static_cast<size_t>(id)] = !row.allowed_token_ids.empty();
  }
  for (const int32_t id : row.allowed_token_ids) {
    MOED_CHECK(id >= 0 && id < vocab, "Sample: an allowed token id is out of range");
    removed[static_cast<size_t>(id)] = false;
  }
  for (const int32_t id : row.suppressed_token_ids) {
    MOED_CHECK(id >= 0 && id < vocab, "Sample: a suppressed token id is out of range");
    removed[static_cast<size_t>(id)] = true;
  }
  candidates.clear();
  for (int32_t id = 0; id < vocab; ++id) {
    const auto at = static_cast<size_t>(id);
    if (!removed[at]) candidates.push_back({logits[at], id, 0, 0});
  }
  std::sort(candidates.begin(), candidates.end(), Falls);
}

int32_t ChooseToken(const SamplingRow& row, const float* raw, int64_t vocab, Scratch& scratch) {
  for (int64_t id = 0; id < vocab; ++id) scratch.logits[static_cast<size_t>(id)] = Tame(raw[id]);
  AdjustLogits(row, vocab, scratch.logits.data());
  std::vector<Candidate>& candidates = scratch.candidates;
  KeepAllowed(row, scratch.logits, vocab, scratch.removed, candidates);
  if (candidates.empty()) {
    if (row.allowed_token_ids.empty()) return 0;
    return *std::min_element(row.allowed_token_ids.begin(), row.allowed_token_ids.end());
  }
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (row.temperature == 0 || candidates.front().logit == -kInfinity) return candidates.front().id;
  return Draw(candidates, row);
}

}  // namespace

void Sample(const SampleArgs& args, Scratch& scratch) {
  const int64_t vocab = args.logits.dim(1);
  if (args.rows.empty()) return;
  MOED_CHECK(vocab > 0, "Sample: the vocabulary is empty");
  MOED_CHECK(vocab <= static_cast<int64_t>(scratch.logits.size()),
             "Sample: vocab exceeds the workspace's limits");
  for (size_t r = 0; r < args.rows.size(); ++r) {
    const SamplingRow& row = args.rows[r];
    const float* logits = args.logits.data<float>() + static_cast<int64_t>(r) * vocab;
    const int32_t token = ChooseToken(row, logits, vocab, scratch);
    const LogSoftmax softmax(logits, vocab, scratch.candidates);
    args.token_ids.data<int32_t>()[r] = token;
    args.last_sampled.data<int32_t>()[row.slot] = token;
    args.logprobs.data<float>()[r] = softmax.Of(logits[token]);
    if (!args.want_top) continue;
    const int64_t top = static_cast<int64_t>(r) * kMaxLogprobs;
    softmax.WriteTop(args.top_ids.data<int32_t>() + top, args.top_logprobs.data<float>() + top);
  }
}

}  // namespace moed::reference
