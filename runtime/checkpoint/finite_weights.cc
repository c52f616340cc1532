#include "runtime/checkpoint/finite_weights.h"

#include <algorithm>

#include "kernels/core/check.h"

namespace moed {
namespace {

// A number is infinite or NaN where all bits of its exponent are set.
template <typename Bits>
std::optional<int64_t> FirstWithExponent(const void* data, int64_t count, Bits exponent) {
  const auto* bits = static_cast<const Bits*>(data);
  constexpr int64_t kBlock = 4096;  // of which one answer is made, so that the loop is branchless
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(count, begin + kBlock);
    Bits found = 0;
    for (int64_t i = begin; i < end; ++i) {
      found |= static_cast<Bits>((bits[i] & exponent) == exponent);
    }
    if (found == 0) continue;
    const auto* first = std::find_if(bits + begin, bits + end, [exponent](Bits value) {
      return (value & exponent) == exponent;
    });
    return first - bits;
  }
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> FirstNonFinite(const ConstTensorView& tensor) {
  const int64_t count = tensor.bytes() / DTypeBytes(tensor.dtype());
  switch (tensor.dtype()) {
    case DType::kFloat32:
      return FirstWithExponent<uint32_t>(tensor.raw(), count, 0x7F800000U);
    case DType::kBFloat16:
      return FirstWithExponent<uint16_t>(tensor.raw(), count, 0x7F80U);
    case DType::kFloat16:
      return FirstWithExponent<uint16_t>(tensor.raw(), count, 0x7C00U);
    default:
      MOED_CHECK(false, "weights are floating point");
  }
  return std::nullopt;
}

}  // namespace moed
