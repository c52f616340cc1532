// What a step must at least read and compute, and the time that takes on a device with given limits
// (roofline: Williams, Waterman and Patterson 2009).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/core/dtype.h"
#include "runtime/checkpoint/model_config.h"

namespace moed {

// One step of one rank.
struct StepShape {
  double rows = 0;           // computed on this rank
  double logit_rows = 0;     // of those, drawn from
  double kv_tokens = 0;      // keys read, summed over rows of decode, or over chunks of a prompt
  double scores = 0;         // (row, key) pairs of attention
  double copies = 1;         // of each row among those that its experts compute: the ranks of an
                             // emulated group, whose rows are all this rank's
  double local_experts = 0;  // a layer's experts on this rank
};

struct StepCost {
  double bytes = 0;
  double flops = 0;
  double floor_seconds = 0;  // sum over parts of the longer of the two; 0 without limits
};

struct DeviceLimits {
  double bytes_per_second = 0;  // 0: not known
  double flops_per_second = 0;
};

class StepFloor {
 public:
  StepFloor(const ModelConfig& config, DType dtype, const DeviceLimits& limits)
      : config_(config), element_bytes_(static_cast<double>(DTypeBytes(dtype))), limits_(limits) {}

  StepCost Of(const StepShape& shape) const {
    const auto hidden = static_cast<double>(config_.hidden);
    const auto layers = static_cast<double>(config_.num_layers);
    StepCost cost;
    Add(layers, hidden * static_cast<double>(config_.qkv_features() + config_.q_features()),
        shape.rows, 0, 0, cost);
    Add(layers, 0, 0,
        2 * static_cast<double>(config_.kv_features()) * element_bytes_ * shape.kv_tokens,
        4 * static_cast<double>(config_.q_features()) * shape.scores, cost);
    // Local experts that the rows hit under uniform routing: copies hit the same ones.
    const double miss =
        1 - static_cast<double>(config_.top_k) / static_cast<double>(config_.num_experts);
    const double hit = shape.local_experts * (1 - std::pow(miss, shape.rows));
    const double pairs = shape.rows * shape.copies * static_cast<double>(config_.top_k) *
                         shape.local_experts / static_cast<double>(config_.num_experts);
    const double expert = 3 * hidden * static_cast<double>(config_.ffn);
    AddPart(layers, hit * expert * element_bytes_, 2 * expert * pairs, cost);
    Add(1, hidden * static_cast<double>(config_.vocab_size), shape.logit_rows, 0, 0, cost);
    return cost;
  }

 private:
  // `times` matrices of so many elements that each row goes through, and what comes on top.
  void Add(double times, double elements, double rows, double more_bytes, double more_flops,
           StepCost& cost) const {
    AddPart(times, elements * element_bytes_ * (rows > 0 ? 1 : 0) + more_bytes,
            2 * elements * rows + more_flops, cost);
  }
  void AddPart(double times, double bytes, double flops, StepCost& cost) const {
    cost.bytes += times * bytes;
    cost.flops += times * flops;
    if (limits_.bytes_per_second <= 0 || limits_.flops_per_second <= 0) return;
    cost.floor_seconds +=
        times * std::max(bytes / limits_.bytes_per_second, flops / limits_.flops_per_second);
  }

  const ModelConfig& config_;
  const double element_bytes_;
  const DeviceLimits limits_;
};

}  // namespace moed
