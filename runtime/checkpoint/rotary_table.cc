#include "runtime/checkpoint/rotary_table.h"

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/core/status.h"

namespace moed {

absl::StatusOr<Buffer> MakeRotaryTable(const ModelConfig& config) {
  const int64_t half = config.head_dim / 2;
  MOED_ASSIGN_OR_RETURN(Buffer table, AllocateHostBuffer(config.max_positions * config.head_dim *
                                                         DTypeBytes(DType::kFloat32)));
  std::vector<double> frequency;
  for (int64_t i = 0; i < half; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
    frequency.push_back(config.rope_position_scale * std::pow(config.rope_theta, exponent));
  }
  auto* row = static_cast<float*>(table.data());
  for (int64_t position = 0; position < config.max_positions; ++position) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(position) * frequency[static_cast<size_t>(i)];
      row[i] = static_cast<float>(std::cos(angle));
      row[half + i] = static_cast<float>(std::sin(angle));
    }
    row += config.head_dim;
  }
  return table;
}

}  // namespace moed
