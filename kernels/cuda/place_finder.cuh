// Where in an ordered row of weighted tokens a running sum passes a number, without sorting: the
// order is cut into 16 equal parts, the part in which the sum passes is cut again, and so on until
// so few tokens are left that each can look at all others. Weights are integers: sums are exact,
// and the result depends on nothing but the tokens.
#pragma once

#include <cstdint>

#include "kernels/cuda/block_fold.cuh"
#include "kernels/cuda/device.cuh"

namespace moed::cuda {

// Tokens are ordered by code, then by place, which is their own alone.
struct OrderedToken {
  uint64_t code;
  uint64_t place;
};

struct FoundToken {
  OrderedToken token;
  uint64_t before;  // sum of the weights before it
  uint64_t weight;
  bool exists;
};

struct WeightTotals {
  uint64_t weight;
  uint32_t count;
};

inline constexpr int kParts = 16;
inline constexpr int kMaxSlices = 32;  // of 16 threads
inline constexpr unsigned kFewTokens = 128;

struct PlaceFinderShared {
  uint64_t slice_weight[kParts][kMaxSlices];
  uint64_t slice_low[kMaxSlices];
  uint64_t slice_high[kMaxSlices];
  uint32_t slice_count[kParts][kMaxSlices];
  uint64_t weight[kParts];
  uint32_t count[kParts];
  uint64_t low;
  uint64_t high;
  OrderedToken few[kFewTokens];
  uint64_t few_weight[kFewTokens];
  unsigned num_few;
  FoundToken found;
};

// Every thread counts in columns of its own, so nothing is added atomically.
struct PlaceColumns {
  uint64_t* weight;  // [kParts, blockDim.x]
  uint64_t* low;     // [blockDim.x]
  uint64_t* high;    // [blockDim.x]
  uint16_t* count;   // [kParts, blockDim.x]
};

// What the shared memory of an SM has room for; registers are to suffice for it too.
inline constexpr unsigned kPlaceFindersPerSm = 2;

// Dynamic shared memory of a block that finds places.
constexpr int64_t PlaceColumnBytes(unsigned threads) {
  return static_cast<int64_t>(threads) * (kParts * 8 + 8 + 8 + kParts * 2);
}

__device__ __forceinline__ PlaceColumns PlaceColumnsAt(uint64_t* memory) {
  PlaceColumns columns;
  columns.weight = memory;
  columns.low = columns.weight + kParts * blockDim.x;
  columns.high = columns.low + blockDim.x;
  columns.count = reinterpret_cast<uint16_t*>(columns.high + blockDim.x);
  return columns;
}

// Source: `int64_t vocab` (at most 2^16 tokens a thread), `bool Get(int64_t id, OrderedToken*)`,
// false for a token that takes no part, and `uint64_t Weight(const OrderedToken&)`. All weights
// together are below 2^64. All threads of a block, of 32 to 512 in whole warps, call alike.
template <typename Source>
class PlaceFinder {
 public:
  __device__ PlaceFinder(const Source& source, const PlaceColumns& columns,
                         PlaceFinderShared& shared)
      : source_(source), columns_(columns), shared_(shared) {}

  // The token with which the sum of the weights passes `wanted_of(totals)`, which every thread
  // works out alike: before <= wanted < before + weight. None where that is not below the total.
  template <typename WantedOf>
  __device__ FoundToken Find(WantedOf wanted_of) {
    uint64_t before = 0;
    uint64_t wanted = 0;
    by_place_ = false;
    first_ = 0;
    last_ = ~uint64_t{0};
    for (bool is_whole = true;; is_whole = false) {
      CountParts();
      if (is_whole) {
        const WeightTotals totals = Totals();
        wanted = wanted_of(totals);
        if (wanted >= totals.weight) return FoundToken{{0, 0}, 0, 0, false};
      }
      int part = 0;
      while (part < kParts - 1 && before + shared_.weight[part] <= wanted) {
        before += shared_.weight[part++];
      }
      const uint32_t count = shared_.count[part];
      Narrow(part);
      if (count <= kFewTokens) return FindAmongFew(before, wanted);
      if (first_ == last_ && !by_place_) {
        by_place_ = true;
        code_ = first_;
        first_ = 0;
        last_ = ~uint64_t{0};
      }
    }
  }

 private:
  // Whether a token lies in the stretch that is left; `at` is where.
  __device__ bool Has(const OrderedToken& token, uint64_t* at) const {
    if (by_place_ && token.code != code_) return false;
    *at = by_place_ ? token.place : token.code;
    return *at >= first_ && *at <= last_;
  }

  __device__ WeightTotals Totals() const {
    WeightTotals totals = {0, 0};
    for (int part = 0; part < kParts; ++part) {
      totals.weight += shared_.weight[part];
      totals.count += shared_.count[part];
    }
    return totals;
  }

  // To a part that has tokens, and within it to what the lowest and highest of all leave.
  __device__ void Narrow(int part) {
    const uint64_t begin = first_ + (static_cast<uint64_t>(part) << shift_);
    const uint64_t length = (uint64_t{1} << shift_) - 1;
    const uint64_t end = length < last_ - begin ? begin + length : last_;
    first_ = begin > shared_.low ? begin : shared_.low;
    last_ = end < shared_.high ? end : shared_.high;
  }

  __device__ void CountParts() {
    const int bits = 64 - __clzll(static_cast<long long>(last_ - first_));
    shift_ = bits > 4 ? bits - 4 : 0;
    const unsigned stride = blockDim.x;
    uint64_t* weights = columns_.weight + threadIdx.x;
    uint16_t* counts = columns_.count + threadIdx.x;
    for (int part = 0; part < kParts; ++part) {
      weights[part * stride] = 0;
      counts[part * stride] = 0;
    }
    uint64_t low = ~uint64_t{0};
    uint64_t high = 0;
    for (int64_t id = threadIdx.x; id < source_.vocab; id += stride) {
      OrderedToken token;
      uint64_t at = 0;
      if (!source_.Get(id, &token) || !Has(token, &at)) continue;
      const auto part = static_cast<unsigned>((at - first_) >> shift_);
      weights[part * stride] += source_.Weight(token);
      ++counts[part * stride];
      low = at < low ? at : low;
      high = at > high ? at : high;
    }
    columns_.low[threadIdx.x] = low;
    columns_.high[threadIdx.x] = high;
    __syncthreads();
    SumSlices();
    __syncthreads();
    SumParts();
    __syncthreads();
  }

  // One thread for 16 columns of a part.
  __device__ void SumSlices() {
    const unsigned num_slices = blockDim.x / kParts;
    const unsigned part = threadIdx.x / num_slices;
    const unsigned slice = threadIdx.x % num_slices;
    // A start of its own for each thread of a warp, which would else meet in one bank.
    const unsigned begin = slice * kParts;
    uint64_t weight = 0;
    uint32_t count = 0;
    for (unsigned i = 0; i < kParts; ++i) {
      const unsigned column = part * blockDim.x + begin + (i + slice) % kParts;
      weight += columns_.weight[column];
      count += columns_.count[column];
    }
    shared_.slice_weight[part][slice] = weight;
    shared_.slice_count[part][slice] = count;
    if (part != 0) return;
    uint64_t low = ~uint64_t{0};
    uint64_t high = 0;
    for (unsigned i = begin; i < begin + kParts; ++i) {
      low = columns_.low[i] < low ? columns_.low[i] : low;
      high = columns_.high[i] > high ? columns_.high[i] : high;
    }
    shared_.slice_low[slice] = low;
    shared_.slice_high[slice] = high;
  }

  __device__ void SumParts() {
    const unsigned num_slices = blockDim.x / kParts;
    if (threadIdx.x < kParts) {
      uint64_t weight = 0;
      uint32_t count = 0;
      for (unsigned slice = 0; slice < num_slices; ++slice) {
        weight += shared_.slice_weight[threadIdx.x][slice];
        count += shared_.slice_count[threadIdx.x][slice];
      }
      shared_.weight[threadIdx.x] = weight;
      shared_.count[threadIdx.x] = count;
    } else if (threadIdx.x == kParts) {
      uint64_t low = ~uint64_t{0};
      uint64_t high = 0;
      for (unsigned slice = 0; slice < num_slices; ++slice) {
        low = shared_.slice_low[slice] < low ? shared_.slice_low[slice] : low;
        high = shared_.slice_high[slice] > high ? shared_.slice_high[slice] : high;
      }
      shared_.low = low;
      shared_.high = high;
    }
  }

  __device__ FoundToken FindAmongFew(uint64_t before, uint64_t wanted) {
    if (threadIdx.x == 0) {
      shared_.num_few = 0;
      shared_.found = FoundToken{{0, 0}, 0, 0, false};
    }
    __syncthreads();
    for (int64_t id = threadIdx.x; id < source_.vocab; id += blockDim.x) {
      OrderedToken token;
      uint64_t at = 0;
      if (!source_.Get(id, &token) || !Has(token, &at)) continue;
      const unsigned i = atomicAdd(&shared_.num_few, 1U);
      shared_.few[i] = token;
      shared_.few_weight[i] = source_.Weight(token);
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < shared_.num_few; i += blockDim.x) {
      const OrderedToken token = shared_.few[i];
      uint64_t sum = before;
      for (unsigned j = 0; j < shared_.num_few; ++j) {
        const OrderedToken other = shared_.few[j];
        const bool is_before =
            other.code != token.code ? other.code < token.code : other.place < token.place;
        if (is_before) sum += shared_.few_weight[j];
      }
      if (sum <= wanted && wanted - sum < shared_.few_weight[i]) {
        shared_.found = FoundToken{token, sum, shared_.few_weight[i], true};
      }
    }
    __syncthreads();
    return shared_.found;
  }

  const Source& source_;
  const PlaceColumns columns_;
  PlaceFinderShared& shared_;
  // What is left: codes, or places of the tokens of one code, from first_ to last_.
  bool by_place_ = false;
  uint64_t code_ = 0;
  uint64_t first_ = 0;
  uint64_t last_ = ~uint64_t{0};
  int shift_ = 0;
};

}  // namespace moed::cuda
