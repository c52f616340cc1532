#include "kernels/cpu/fast/falling_order.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace moed::fast {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Ascending keys are falling logits, then rising ids. -0 was made +0 before.
uint64_t Key(float logit, int64_t id) {
  const uint32_t bits = std::bit_cast<uint32_t>(logit);
  const uint32_t rising = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return (static_cast<uint64_t>(~rising) << 32) | static_cast<uint64_t>(id);
}

}  // namespace

FallingOrder::FallingOrder(const float* logits, int64_t vocab, float largest, float scale,
                           uint64_t* keys)
    : logits_(logits),
      vocab_(vocab),
      largest_(largest),
      scale_(scale),
      keys_(keys),
      collected_above_(kInfinity) {}

bool FallingOrder::CollectBand() {
  if (complete_) return false;
  constexpr double kLastBand = 256;  // exp(-256) is nothing beside the largest
  const double bound = static_cast<double>(largest_) - band_ * scale_;
  constexpr float kLowest = std::numeric_limits<float>::lowest();
  complete_ = band_ >= kLastBand || bound <= static_cast<double>(kLowest);
  const float lower = complete_ ? kLowest : static_cast<float>(bound);
  band_ *= 4;
  for (int64_t id = 0; id < vocab_; ++id) {
    if (logits_[id] >= lower && logits_[id] < collected_above_) {
      keys_[num_keys_++] = Key(logits_[id], id);
    }
  }
  collected_above_ = lower;
  return true;
}

bool FallingOrder::Has(int64_t i) {
  while (i >= num_sorted_) {
    while (num_sorted_ == num_keys_) {
      if (!CollectBand()) return false;
    }
    constexpr int64_t kFirstPiece = 256;
    const int64_t piece = std::min(std::max(kFirstPiece, num_sorted_ * 2), num_keys_ - num_sorted_);
    uint64_t* begin = keys_ + num_sorted_;
    if (num_sorted_ + piece < num_keys_) std::nth_element(begin, begin + piece, keys_ + num_keys_);
    std::sort(begin, begin + piece);
    num_sorted_ += piece;
  }
  return true;
}

}  // namespace moed::fast
