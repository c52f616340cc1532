#include "tests/kernels/cpu/sample_harness.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <sstream>

#include "kernels/core/philox.h"

namespace moed {

std::vector<KernelCase> SampleKernelCases() {
  std::vector<KernelCase> cases;
  for (const Kernels kernels :
       {Kernels::kReference, Kernels::kBaseline, Kernels::kPortable, Kernels::kAvx512Bf16}) {
    cases.push_back({kernels, DType::kFloat32});
  }
  return cases;
}

Sampled SampleRows(Backend& backend, Stream& stream, const ConstTensorView& logits,
                   const std::vector<SamplingRow>& rows) {
  const auto count = static_cast<int64_t>(rows.size());
  Sampled out{Tensor(DType::kInt32, {count}), Tensor(DType::kFloat32, {count}),
              Tensor(DType::kInt32, {count, kMaxLogprobs}),
              Tensor(DType::kFloat32, {count, kMaxLogprobs}),
              Tensor::Ints({64}, std::vector<int32_t>(64, -7))};
  SampleArgs args;
  args.logits = logits;
  args.rows = rows;
  args.last_sampled = out.last_sampled.view();
  args.token_ids = out.tokens.view();
  args.logprobs = out.logprobs.view();
  args.top_ids = out.top_ids.view();
  args.top_logprobs = out.top_logprobs.view();
  args.want_top = true;
  backend.Sample(stream, args);
  return out;
}

int32_t SampleOne(Backend& backend, Stream& stream, const std::vector<float>& logits,
                  const SamplingRow& row) {
  const Tensor tensor =
      Tensor::Of(DType::kFloat32, {1, static_cast<int64_t>(logits.size())}, logits);
  return SampleRows(backend, stream, tensor, {row}).tokens.int_at(0);
}

SamplingRow Row(float temperature, int32_t top_k, float top_p, float min_p) {
  SamplingRow row;
  row.temperature = temperature;
  row.top_k = top_k;
  row.top_p = top_p;
  row.min_p = min_p;
  return row;
}

SamplingRow RowWithLists::Get() const {
  SamplingRow result = row;
  result.seen = seen;
  result.logit_bias = logit_bias;
  result.allowed_token_ids = allowed;
  result.suppressed_token_ids = suppressed;
  return result;
}

std::string Describe(const SamplingRow& row) {
  std::ostringstream text;
  text << "temperature " << row.temperature << " top_k " << row.top_k << " top_p " << row.top_p
       << " min_p " << row.min_p << " typical_p " << row.typical_p << " repetition "
       << row.repetition_penalty << " frequency " << row.frequency_penalty << " presence "
       << row.presence_penalty << " seen " << row.seen.size() << " biased " << row.logit_bias.size()
       << " allowed " << row.allowed_token_ids.size() << " suppressed "
       << row.suppressed_token_ids.size() << " seed " << row.seed;
  return text.str();
}

std::vector<double> WantedLogits(const std::vector<float>& raw, const SamplingRow& row) {
  const double largest = std::numeric_limits<float>::max();
  const auto in_range = [largest](double logit) {
    return logit == -INFINITY ? logit : std::clamp(logit, -largest, largest);
  };
  std::vector<double> logits;
  for (const float logit : raw) logits.push_back(std::isnan(logit) ? -INFINITY : in_range(logit));
  for (size_t id = 0; id < raw.size(); ++id) {
    double& logit = logits[id];
    const auto is_this = [&](int32_t other) { return static_cast<size_t>(other) == id; };
    for (const TokenBias& bias : row.logit_bias) {
      if (is_this(bias.token_id)) logit = in_range(logit + bias.bias);
    }
    for (const SeenToken& token : row.seen) {
      if (!is_this(token.token_id)) continue;
      if (token.in_prompt || token.num_drawn > 0) {
        logit = logit > 0 ? logit / row.repetition_penalty : logit * row.repetition_penalty;
      }
      logit -= static_cast<double>(row.frequency_penalty) * token.num_drawn;
      if (token.num_drawn > 0) logit -= row.presence_penalty;
      logit = in_range(logit);
    }
    const bool allowed =
        row.allowed_token_ids.empty() ||
        std::any_of(row.allowed_token_ids.begin(), row.allowed_token_ids.end(), is_this);
    const bool suppressed =
        std::any_of(row.suppressed_token_ids.begin(), row.suppressed_token_ids.end(), is_this);
    if (!allowed || suppressed) logit = -INFINITY;
  }
  return logits;
}

namespace {

struct Left {
  size_t id;
  double logit;
  double weight;
};

double TotalOf(const std::vector<Left>& left) {
  double total = 0;
  for (const Left& token : left) total += token.weight;
  return total;
}

// How many of the first reach `share` of all.
size_t NumReaching(const std::vector<Left>& left, double share, double* margin) {
  const double total = TotalOf(left);
  double cumulative = 0;
  size_t kept = 0;
  while (kept < left.size() && (kept == 0 || cumulative < share * total)) {
    cumulative += left[kept++].weight;
    *margin = std::min(*margin, std::abs(cumulative / total - share));
  }
  return kept;
}

void KeepTypical(std::vector<Left>& left, double share, double* margin) {
  const double total = TotalOf(left);
  double entropy = 0;
  for (const Left& token : left) {
    const double p = token.weight / total;
    if (p > 0) entropy += p * -std::log(p);
  }
  const auto oddity = [&](const Left& token) {
    return std::abs(-std::log(token.weight / total) - entropy);
  };
  std::vector<Left> nearest = left;
  std::stable_sort(nearest.begin(), nearest.end(),
                   [&](const Left& a, const Left& b) { return oddity(a) < oddity(b); });
  const size_t kept = NumReaching(nearest, share, margin);
  // The runs of equal logits before and after the last one that is kept.
  for (const int step : {-1, 1}) {
    auto at = static_cast<int64_t>(kept) - 1;
    const Left& last = nearest[static_cast<size_t>(at)];
    while (at >= 0 && at < static_cast<int64_t>(nearest.size()) &&
           nearest[static_cast<size_t>(at)].logit == last.logit) {
      at += step;
    }
    if (at < 0 || at >= static_cast<int64_t>(nearest.size())) continue;
    *margin = std::min(*margin, std::abs(oddity(nearest[static_cast<size_t>(at)]) - oddity(last)));
  }
  nearest.resize(kept);
  std::erase_if(left, [&](const Left& token) {
    return std::none_of(nearest.begin(), nearest.end(),
                        [&](const Left& other) { return other.id == token.id; });
  });
}

}  // namespace

WantedDistribution CutLogits(const std::vector<double>& logits, const SamplingRow& row,
                             const std::vector<Cut>& order) {
  WantedDistribution wanted;
  std::vector<Left> left;
  const double largest = *std::max_element(logits.begin(), logits.end());
  for (size_t id = 0; id < logits.size(); ++id) {
    left.push_back({id, logits[id], std::exp((logits[id] - largest) / row.temperature)});
  }
  std::stable_sort(left.begin(), left.end(),
                   [](const Left& a, const Left& b) { return a.logit > b.logit; });
  for (const Cut cut : order) {
    if (cut == Cut::kTopK && row.top_k > 0) {
      left.resize(std::min(left.size(), static_cast<size_t>(row.top_k)));
    } else if (cut == Cut::kTopP && row.top_p < 1) {
      left.resize(NumReaching(left, row.top_p, &wanted.margin));
    } else if (cut == Cut::kMinP && row.min_p > 0) {
      const double bound = row.min_p * left.front().weight;
      for (const Left& token : left) {
        if (token.weight != left.front().weight) {
          wanted.margin = std::min(wanted.margin, std::abs(token.weight / bound - 1));
        }
      }
      std::erase_if(left, [&](const Left& token) { return token.weight < bound; });
    } else if (cut == Cut::kTypical && row.typical_p < 1) {
      KeepTypical(left, row.typical_p, &wanted.margin);
    }
  }
  const double total = TotalOf(left);
  wanted.probability.resize(logits.size());
  for (const Left& token : left) wanted.probability[token.id] = token.weight / total;
  return wanted;
}

namespace {

// Where no token has a chance.
int32_t Fallback(size_t vocab, const SamplingRow& row) {
  const auto in = [](absl::Span<const int32_t> ids, int32_t id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  for (const bool may_be_suppressed : {false, true}) {
    for (int32_t id = 0; id < static_cast<int32_t>(vocab); ++id) {
      if (!row.allowed_token_ids.empty() && !in(row.allowed_token_ids, id)) continue;
      if (may_be_suppressed || !in(row.suppressed_token_ids, id)) return id;
    }
  }
  return 0;
}

}  // namespace

WantedToken TokenOf(const std::vector<float>& raw, const SamplingRow& row) {
  const std::vector<double> logits = WantedLogits(raw, row);
  const auto best = std::max_element(logits.begin(), logits.end());  // the first of equals
  if (*best == -INFINITY) return {Fallback(raw.size(), row), 1};
  WantedToken wanted;
  if (row.temperature == 0) {
    wanted.id = static_cast<int32_t>(best - logits.begin());
    for (const double logit : logits) {
      if (logit == *best) continue;
      wanted.margin = std::min(wanted.margin, (*best - logit) / std::max(1.0, std::abs(*best)));
    }
    return wanted;
  }
  const WantedDistribution left = CutLogits(logits, row);
  wanted.margin = left.margin;
  std::vector<int32_t> order(raw.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  const double u = UniformForToken(row.seed, row.choice_index, row.position);
  double cumulative = 0;
  for (const int32_t id : order) {
    const double p = left.probability[static_cast<size_t>(id)];
    if (p == 0) continue;
    wanted.id = id;
    if (cumulative + p > u) {
      wanted.margin = std::min(wanted.margin, cumulative + p - u);
      if (cumulative > 0) wanted.margin = std::min(wanted.margin, u - cumulative);
      break;
    }
    cumulative += p;
  }
  return wanted;
}

void ExpectCounts(const std::vector<int>& counts, const std::vector<double>& probabilities,
                  const std::string& what) {
  ASSERT_EQ(counts.size(), probabilities.size());
  const int num_draws = std::accumulate(counts.begin(), counts.end(), 0);
  double statistic = 0;
  double freedom = -1;
  for (size_t i = 0; i < counts.size(); ++i) {
    const double expected = probabilities[i] * num_draws;
    if (expected == 0) {
      EXPECT_EQ(counts[i], 0) << i << " was cut: " << what;
      continue;
    }
    ++freedom;
    statistic += std::pow(counts[i] - expected, 2) / expected;
  }
  constexpr double kX = 20;
  EXPECT_LE(statistic, freedom + 2 * std::sqrt(freedom * kX) + 2 * kX)
      << "chi-square of " << freedom << " degrees: " << what;
}

}  // namespace moed
