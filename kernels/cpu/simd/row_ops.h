// Operations on one row: norms, router, activation, conversions, softmax sums.
#pragma once

#include "kernels/cpu/simd/exp.h"
#include "kernels/cpu/simd/vector.h"

namespace moed {
namespace {

void SiluMultiply(const float* gate, const float* up, int64_t count, float* out) {
  ForVectors(count, [&](int64_t i, int64_t n) {
    const F32 z = LoadUpTo(gate + i, n);
    StoreUpTo(z / (Set(1.0F) + Exp(-z)) * LoadUpTo(up + i, n), n, out + i);
  });
}

void Widen(const uint16_t* bf16, int64_t count, float* out) {
  ForVectors(count, [&](int64_t i, int64_t n) { StoreUpTo(LoadUpTo(bf16 + i, n), n, out + i); });
}

void Narrow(const float* values, int64_t count, uint16_t* bf16) {
  ForVectors(count, [&](int64_t i, int64_t n) { StoreUpTo(LoadUpTo(values + i, n), n, bf16 + i); });
}

void RmsNormRow(const float* x, const float* weight, float epsilon, int64_t size, float* out) {
  F32 squares{};
  ForVectors(size, [&](int64_t i, int64_t n) {
    const F32 value = LoadUpTo(x + i, n);
    squares = MulAdd(value, value, squares);
  });
  const float mean = SumLanes(squares) / static_cast<float>(size);
  const F32 scale = Set(1.0F / __builtin_sqrtf(mean + epsilon));
  ForVectors(size, [&](int64_t i, int64_t n) {
    StoreUpTo(LoadUpTo(x + i, n) * scale * LoadUpTo(weight + i, n), n, out + i);
  });
}

template <typename T>
void RouterLogitsOf(const T* x, const float* weight, int64_t num_experts, int64_t hidden,
                    float* logits) {
  for (int64_t e = 0; e < num_experts; ++e) {
    const float* w = weight + e * hidden;
    F32 sum[2] = {};  // two chains, by the parity of the vector
    int chain = 0;
    ForVectors(hidden, [&](int64_t i, int64_t n) {
      sum[chain] = MulAdd(LoadUpTo(x + i, n), LoadUpTo(w + i, n), sum[chain]);
      chain ^= 1;
    });
    logits[e] = SumLanes(sum[0] + sum[1]);
  }
}

void RouterLogits(const void* x, bool x_is_bf16, const float* weight, int64_t num_experts,
                  int64_t hidden, float* logits) {
  if (x_is_bf16) {
    RouterLogitsOf(static_cast<const uint16_t*>(x), weight, num_experts, hidden, logits);
  } else {
    RouterLogitsOf(static_cast<const float*>(x), weight, num_experts, hidden, logits);
  }
}

float Maximum(const float* x, int64_t size) {
  float largest = x[0];
  F32 lanes = Set(largest);
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) lanes = Max(Load(x + i), lanes);
  largest = MaxLanes(lanes);
  for (; i < size; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

// Sum of term(z), z = (x[i] - largest) / temperature, over vectors.
template <typename Term>
MOED_INLINE double SumTerms(const float* x, int64_t size, float largest, float temperature,
                            Term term) {
  constexpr int64_t kPiece = int64_t{32} * kLanes;  // short float sums, added up in double
  double sum = 0;
  for (int64_t at = 0; at < size; at += kPiece) {
    F32 lanes{};
    ForVectors(size - at < kPiece ? size - at : kPiece, [&](int64_t i, int64_t n) {
      F32 value = term((LoadUpTo(x + at + i, n) - Set(largest)) / Set(temperature));
      if (n < kLanes) {
        float part[kLanes] = {};
        StorePart(value, n, part);
        value = Load(part);
      }
      lanes += value;
    });
    sum += SumLanes(lanes);
  }
  return sum;
}

double SumExp(const float* x, int64_t size, float largest, float temperature) {
  return SumTerms(x, size, largest, temperature, [](F32 z) { return Exp(z); });
}

double SumZExp(const float* x, int64_t size, float largest, float temperature) {
  constexpr float kNothing = -100.0F;  // exp of less is 0, and -infinity * 0 is no number
  return SumTerms(x, size, largest, temperature,
                  [](F32 z) { return Select(z < Set(kNothing), F32{}, z * Exp(z)); });
}

}  // namespace
}  // namespace moed
