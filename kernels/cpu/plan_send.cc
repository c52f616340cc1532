#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/index_ops.h"

namespace moed {
namespace {

// The rank of a pair, or -1 where there is no pair.
int32_t RankOf(int32_t expert, const int32_t* rank_of_expert, int64_t num_experts,
               int64_t num_ranks) {
  if (expert < 0) return -1;
  MOED_CHECK(expert < num_experts, "PlanSend: an expert id is out of range");
  const int32_t rank = rank_of_expert[expert];
  MOED_CHECK(rank >= 0 && rank < num_ranks, "PlanSend: an expert's rank is out of range");
  return rank;
}

// Counts become first places, in place; advancing every place by its count and then calling
// CountsFromEnds gives the counts back.
void StartsFromCounts(int32_t* values, int64_t size) {
  int32_t start = 0;
  for (int64_t i = 0; i < size; ++i) {
    const int32_t count = values[i];
    values[i] = start;
    start += count;
  }
}

void CountsFromEnds(int32_t* values, int64_t size) {
  for (int64_t i = size - 1; i > 0; --i) values[i] -= values[i - 1];
}

}  // namespace

void PlanSend(const PlanSendArgs& args) {
  const int64_t num_tokens = args.topk_ids.dim(0);
  const int64_t top_k = args.topk_ids.dim(1);
  const int64_t num_ranks = args.send_counts.dim(0);
  const int64_t num_experts = args.rank_of_expert.dim(0);
  if (num_ranks == 0) return;
  const int32_t* topk_ids = args.topk_ids.data<int32_t>();
  const int32_t* rank_of_expert = args.rank_of_expert.data<int32_t>();
  int32_t* send_row_index = args.send_row_index.data<int32_t>();
  int32_t* send_counts = args.send_counts.data<int32_t>();
  int32_t* reply_counts = args.reply_counts.data<int32_t>();
  int32_t* contribution_index = args.contribution_index.data<int32_t>();
  for (int64_t rank = 0; rank < num_ranks; ++rank) send_counts[rank] = reply_counts[rank] = 0;

  // Calls visit(row, choice, rank, whether it is the row's first choice on that rank).
  const auto for_each_pair = [&](auto visit) {
    for (int64_t row = 0; row < num_tokens; ++row) {
      const int32_t* choices = topk_ids + row * top_k;
      for (int64_t c = 0; c < top_k; ++c) {
        const int32_t rank = RankOf(choices[c], rank_of_expert, num_experts, num_ranks);
        bool first = true;
        for (int64_t earlier = 0; earlier < c && rank >= 0; ++earlier) {
          if (choices[earlier] >= 0 && rank_of_expert[choices[earlier]] == rank) first = false;
        }
        visit(row, c, rank, first);
      }
    }
  };
  for_each_pair([&](int64_t, int64_t, int32_t rank, bool first) {
    if (rank < 0) return;
    send_counts[rank] += first ? 1 : 0;
    ++reply_counts[rank];
  });
  StartsFromCounts(send_counts, num_ranks);
  StartsFromCounts(reply_counts, num_ranks);
  for_each_pair([&](int64_t row, int64_t choice, int32_t rank, bool first) {
    int32_t& place = contribution_index[row * top_k + choice];
    place = rank < 0 ? -1 : reply_counts[rank]++;
    if (rank >= 0 && first) send_row_index[send_counts[rank]++] = static_cast<int32_t>(row);
  });
  CountsFromEnds(send_counts, num_ranks);
  CountsFromEnds(reply_counts, num_ranks);
}

}  // namespace moed
