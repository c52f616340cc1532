// What the sampling kernels know of a row: SamplingRow (kernels/backend.h) as plain numbers. Its
// lists come apart from it, in pieces. For nvcc too.
#pragma once

#include <cstdint>

namespace moed::cuda {

struct SampledRow {
  uint64_t seed = 0;
  int64_t position = 0;
  uint32_t choice_index = 0;
  int32_t slot = 0;
  float temperature = 0;
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  float typical_p = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  float repetition_penalty = 1;
  int32_t keys_slot =
      -1;  // which of the rows of keys holds the adjusted logits; -1: none, raw ones
  int32_t is_restricted = 0;  // 1: nothing is allowed but what is listed
};

// Items of a list, in words of 32 bits; TokenListPiece says where they are.
enum TokenListKind : int {
  kAllowedList,     // 1 word: id. First, for penalties leave alone what is not allowed
  kBiasList,        // 2 words: id, bits of the float
  kSeenList,        // 2 words: id, num_drawn + 2^31 where in_prompt
  kSuppressedList,  // 1 word: id
  kNumTokenLists,
};
inline constexpr int kListItemWords[kNumTokenLists] = {1, 2, 2, 1};
inline constexpr uint32_t kInPrompt = 0x80000000U;

// Consecutive items of one row's lists. The pieces of a row come in the order of the kinds.
struct TokenListPiece {
  int32_t row = 0;
  int32_t is_first = 0;  // 1: of the row; its keys hold nothing yet
  int32_t num_items[kNumTokenLists] = {};
  uint32_t first_word[kNumTokenLists] = {};
};

// Threads of the block that works on a row of logits: about 32 logits each, whole warps. Depends on
// the vocabulary alone, so that a row's sums have one order in every batch.
inline constexpr unsigned kMaxRowThreads = 512;
constexpr unsigned ThreadsForVocab(int64_t vocab) {
  constexpr int64_t kMaxWarps = kMaxRowThreads / 32;
  const int64_t warps = (vocab + 1023) / 1024;
  return static_cast<unsigned>((warps < 1 ? 1 : warps > kMaxWarps ? kMaxWarps : warps) * 32);
}

}  // namespace moed::cuda
