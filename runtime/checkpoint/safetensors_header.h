// The header of a safetensors file: which tensors lie where.
// Format: https://github.com/huggingface/safetensors, README, "Format".
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/core/dtype.h"

namespace moed {

inline constexpr int64_t kMaxSafetensorsHeaderBytes = 100'000'000;

struct SafetensorsEntry {
  std::string dtype_name;      // "BF16"
  std::optional<DType> dtype;  // where the numbers are floats that weights can have
  std::vector<int64_t> shape;  // empty: a scalar
  int64_t begin = 0;           // bytes from the start of the data section
  int64_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry, std::less<>> tensors;
  std::map<std::string, std::string, std::less<>> metadata;  // "__metadata__"
};

// `json` is the header's text, `data_bytes` the size of the section after it. Holds afterwards:
// every tensor's bytes lie within the data, their number is that of dtype and shape, and together
// they cover the data without a hole or an overlap. INVALID_ARGUMENT with `file`, tensor, expected
// and found.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view json, int64_t data_bytes,
                                                         absl::string_view file);

}  // namespace moed
