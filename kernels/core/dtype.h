// Element types of tensors.
#pragma once

#include <cstdint>

namespace moed {

enum class DType : uint8_t { kFloat32, kBFloat16, kFloat16, kInt32, kInt64 };

// Size of one element.
constexpr int64_t DTypeBytes(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kBFloat16:
    case DType::kFloat16:
      return 2;
    case DType::kInt64:
      return 8;
  }
  return 0;
}

// "float32", "bfloat16", "float16", "int32" or "int64".
constexpr const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat16:
      return "float16";
    case DType::kInt32:
      return "int32";
    case DType::kInt64:
      return "int64";
  }
  return "unknown";
}

}  // namespace moed
