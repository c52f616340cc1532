#include "runtime/model/random_favourite.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "kernels/core/check.h"

namespace moed {
namespace {

constexpr int kNumDoublings = 16;  // beyond, the deviation has reached its limit

// The product of two polynomials, without the powers above the table.
std::vector<double> Multiply(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> product(a.size(), 0.0);
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == 0) continue;
    for (size_t j = 0; i + j < a.size(); ++j) product[i + j] += a[i] * b[j];
  }
  return product;
}

std::vector<double> Power(std::vector<double> base, int exponent) {
  std::vector<double> power(base.size(), 0.0);
  power[0] = 1;
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2 == 1) power = Multiply(power, base);
    base = Multiply(base, base);
  }
  return power;
}

// [kMaxExactRows + 1] the expected maximum of a multinomial of n rows over equally likely experts:
// the sum over m >= 0 of P(max > m), with P(max <= m) = n! [x^n] (sum of (x / E)^j / j! for j <=
// m)^E, from the exponential generating function.
std::vector<double> ExpectedMaxima(int num_experts) {
  constexpr int kMaxRows = RandomFavourite::kMaxExactRows;
  std::vector<double> maxima(kMaxRows + 1, 0.0);
  std::vector<double> up_to_m(kMaxRows + 1, 0.0);
  double term = 1;
  for (int m = 0; m < kMaxRows; ++m) {
    up_to_m[m] = term;
    term /= static_cast<double>(num_experts) * (m + 1);
    const std::vector<double> coefficients = Power(up_to_m, num_experts);
    double factorial = 1;
    for (int n = 1; n <= kMaxRows; ++n) {
      factorial *= n;
      if (n > m) maxima[n] += 1 - factorial * coefficients[n];
    }
  }
  return maxima;
}

// The expected maximum of independent Poisson counts with the same mean. For many rows that of the
// multinomial: both are normal then, and what conditioning on the sum takes from each count is the
// same for all, and zero on average.
double ExpectedPoissonMaximum(int num_experts, double mean) {
  const double spread = 12 * std::sqrt(mean) + 12;
  const double first = std::max(0.0, std::floor(mean - spread));
  double probability = std::exp(first * std::log(mean) - mean - std::lgamma(first + 1));
  double cumulative = 0;
  double expected = first;  // P(max > m) is 1 for each m before
  for (double m = first; m < mean + spread; ++m) {
    cumulative = std::min(1.0, cumulative + probability);
    expected += 1 - std::pow(cumulative, num_experts);
    probability *= mean / (m + 1);
  }
  return expected;
}

}  // namespace

RandomFavourite::RandomFavourite(int num_experts) : mean_share_(1.0 / num_experts) {
  MOED_CHECK(num_experts >= 1, "a layer has an expert");
  const auto deviation = [this](double maximum, double rows) {
    return (maximum / rows - mean_share_) * std::sqrt(rows);
  };
  const std::vector<double> maxima = ExpectedMaxima(num_experts);
  exact_.push_back(0);
  for (int n = 1; n <= kMaxExactRows; ++n) exact_.push_back(deviation(maxima[n], n));
  for (int i = 0; i <= kNumDoublings; ++i) {
    const double rows = std::ldexp(kMaxExactRows, i);
    const double maximum =
        num_experts == 1 ? rows : ExpectedPoissonMaximum(num_experts, rows * mean_share_);
    at_power_of_2_.push_back(deviation(maximum, rows));
  }
}

double RandomFavourite::Share(int64_t num_rows) const {
  MOED_CHECK(num_rows >= 1, "no rows, no favourite");
  const double rows = static_cast<double>(num_rows);
  double deviation = 0;
  if (num_rows <= kMaxExactRows) {
    deviation = exact_[num_rows];
  } else {
    const double place = std::min<double>(std::log2(rows / kMaxExactRows), kNumDoublings);
    const auto below = std::min(static_cast<size_t>(place), at_power_of_2_.size() - 2);
    const double part = place - static_cast<double>(below);
    deviation = (1 - part) * at_power_of_2_[below] + part * at_power_of_2_[below + 1];
  }
  return mean_share_ + deviation / std::sqrt(rows);
}

}  // namespace moed
