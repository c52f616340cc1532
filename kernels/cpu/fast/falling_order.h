// Tokens by falling logit, sorted only as far as they are asked for.
#pragma once

#include <cstdint>

namespace moed::fast {

// Ties go to the lower id. Tokens of logit -infinity are left out. The order does not depend on how
// it is found: every key is distinct.
class FallingOrder {
 public:
  // `logits` [vocab] hold no NaN; `largest` is their maximum and `scale` > 0 a typical distance
  // between likely tokens (the temperature). `keys` [vocab] is scratch memory.
  FallingOrder(const float* logits, int64_t vocab, float largest, float scale, uint64_t* keys);

  // Whether there is an i-th token; sorts so far. i grows by at most one from call to call.
  bool Has(int64_t i);
  // Of an i for which Has(i) was true.
  int32_t id(int64_t i) const { return static_cast<int32_t>(keys_[i] & 0xffffffffu); }

 private:
  // Appends the keys of the tokens of the next band of logits; false when none is left.
  bool CollectBand();

  const float* const logits_;
  const int64_t vocab_;
  const float largest_;
  const double scale_;
  uint64_t* const keys_;
  int64_t num_keys_ = 0;
  int64_t num_sorted_ = 0;
  double band_ = 4;        // the next band reaches band_ * scale_ below the largest
  float collected_above_;  // tokens of this logit or more are among the keys
  bool complete_ = false;
};

}  // namespace moed::fast
