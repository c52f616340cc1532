// What the busiest of several experts gets of rows that are spread at random.
#pragma once

#include <cstdint>
#include <vector>

namespace moed {

// Of n rows, each sent to one of num_experts at random: the expected share of the expert that
// happens to get the most. 1 for a single row; comes down to 1 / num_experts as 1 / sqrt(n).
class RandomFavourite {
 public:
  // num_experts >= 1. Computes its table: a few milliseconds.
  explicit RandomFavourite(int num_experts);

  // num_rows >= 1. Exact up to kMaxExactRows, within 1 % beyond.
  double Share(int64_t num_rows) const;

  static constexpr int kMaxExactRows = 64;

 private:
  const double mean_share_;
  // (share - mean_share_) * sqrt(num_rows), which tends to a constant.
  std::vector<double> exact_;          // by num_rows, from 0
  std::vector<double> at_power_of_2_;  // at kMaxExactRows * 2^i rows
};

}  // namespace moed
