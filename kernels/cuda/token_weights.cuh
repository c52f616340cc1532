// A row of logits as weighted tokens: what is left of them after each cut, in the order in which
// the next step takes them.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/falling_key.cuh"
#include "kernels/cuda/place_finder.cuh"

namespace moed::cuda {

// With z = (logit - largest) / temperature a token weighs exp(z), rounded to a multiple of
// 1 / weight_scale. Sums are then exact in any order; each is off by at most half a multiple a
// token, which for a vocabulary of V is V^2 / 2^63 of the largest weight at the very most and near
// sqrt(V) V / 2^64 in practice.
struct TokenWeights {
  const float* logits;   // [vocab] raw; read where keys is null
  const uint32_t* keys;  // [vocab] adjusted
  int64_t vocab;
  float largest;
  double inverse_temperature;
  double weight_scale;
  double lowest_z;      // below it a token has no part: it weighs nothing, or min_p cuts it
  uint64_t last_place;  // top_k and top_p have cut what comes after it
  bool by_count;        // a token weighs 1
  // typical_p: `oddity` is how far a token's surprise lies from the entropy, |z - mean_z|.
  bool by_oddity;      // the order
  bool cut_by_oddity;  // what comes after last_typical is cut
  double mean_z;
  OrderedToken last_typical;

  __device__ double ZOf(uint64_t place) const {
    return (static_cast<double>(LogitOf(KeyOf(place))) - largest) * inverse_temperature;
  }

  __device__ bool Get(int64_t id, OrderedToken* token) const {
    const uint32_t key = keys == nullptr ? FallingKey(Tame(logits[id])) : keys[id];
    token->place = PlaceOf(key, id);
    if (key >= kMinusInfinityKey || token->place > last_place) return false;
    const double z = ZOf(token->place);
    if (z < lowest_z) return false;
    token->code = LinearCode(by_oddity ? fabs(z - mean_z) : -z);
    if (!cut_by_oddity) return true;
    const uint64_t oddity = LinearCode(fabs(z - mean_z));
    return oddity != last_typical.code ? oddity < last_typical.code
                                       : token->place <= last_typical.place;
  }

  __device__ uint64_t Weight(const OrderedToken& token) const {
    return by_count ? 1 : Rounded(exp(ZOf(token.place)));
  }

  // Of -z weighted, for its mean.
  __device__ uint64_t Moment(const OrderedToken& token) const {
    const double z = ZOf(token.place);
    return Rounded(exp(z) * -z);
  }

  __device__ uint64_t Rounded(double weight) const {
    return static_cast<uint64_t>(weight * weight_scale + 0.5);
  }
};

// All weights of a row, none above 1, sum to less than 2^63.
__device__ __forceinline__ TokenWeights WeighTokens(const float* logits, const uint32_t* keys,
                                                    int64_t vocab, float largest,
                                                    float temperature) {
  const int bits = 63 - (64 - __clzll(static_cast<long long>(vocab)));
  TokenWeights weights;
  weights.logits = logits;
  weights.keys = keys;
  weights.vocab = vocab;
  weights.largest = largest;
  weights.inverse_temperature = 1.0 / temperature;
  weights.weight_scale = static_cast<double>(uint64_t{1} << bits);
  weights.lowest_z = -0.6931471805599453 * (bits + 1);
  weights.last_place = ~uint64_t{0};
  weights.by_count = false;
  weights.by_oddity = false;
  weights.cut_by_oddity = false;
  weights.mean_z = 0;
  weights.last_typical = OrderedToken{~uint64_t{0}, ~uint64_t{0}};
  return weights;
}

}  // namespace moed::cuda
