// Operations whose plain loops are as fast as memory: the reference, over ranges of rows.
#include <algorithm>
#include <cstdint>

#include "kernels/cpu/fast/fast_ops.h"
#include "kernels/cpu/reference/reference_ops.h"

namespace moed::fast {

int64_t Grain(const ThreadPool& pool, int64_t num_items, int64_t item_work) {
  constexpr int64_t kRangesPerThread = 4;
  constexpr int64_t kLeastRangeWork = 20'000;
  const int64_t ranges = kRangesPerThread * pool.num_threads();
  const int64_t shared = (num_items + ranges - 1) / ranges;
  const int64_t least = (kLeastRangeWork + item_work - 1) / std::max<int64_t>(item_work, 1);
  return std::max({shared, least, int64_t{1}});
}

void Embed(const Context& context, const EmbedArgs& args) {
  const int64_t num_rows = args.out.dim(0);
  context.pool.ParallelFor(num_rows, Grain(context.pool, num_rows, args.out.dim(1) / 4),
                           [&](int64_t begin, int64_t end) {
                             EmbedArgs part = args;
                             part.input_tokens = args.input_tokens.Rows(begin, end - begin);
                             part.out = args.out.Rows(begin, end - begin);
                             reference::Embed(part);
                           });
}

void RotaryCacheWrite(const Context& context, const RotaryCacheWriteArgs& args) {
  const int64_t num_rows = args.q.dim(0);
  context.pool.ParallelFor(num_rows, Grain(context.pool, num_rows, args.qkv.dim(1)),
                           [&](int64_t begin, int64_t end) {
                             RotaryCacheWriteArgs part = args;
                             part.qkv = args.qkv.Rows(begin, end - begin);
                             part.positions = args.positions.Rows(begin, end - begin);
                             part.slot_mapping = args.slot_mapping.Rows(begin, end - begin);
                             part.q = args.q.Rows(begin, end - begin);
                             reference::RotaryCacheWrite(part);
                           });
}

void GatherRows(const Context& context, const GatherRowsArgs& args) {
  const int64_t num_rows = args.out.dim(0);
  context.pool.ParallelFor(num_rows, Grain(context.pool, num_rows, args.out.dim(1) / 8),
                           [&](int64_t begin, int64_t end) {
                             GatherRowsArgs part = args;
                             part.row_index = args.row_index.Rows(begin, end - begin);
                             part.out = args.out.Rows(begin, end - begin);
                             reference::GatherRows(part);
                           });
}

void Combine(const Context& context, const CombineArgs& args) {
  const int64_t num_rows = args.residual.dim(0);
  const int64_t row_work = args.residual.dim(1) * args.contribution_index.dim(1);
  context.pool.ParallelFor(
      num_rows, Grain(context.pool, num_rows, row_work), [&](int64_t begin, int64_t end) {
        CombineArgs part = args;
        part.contribution_index = args.contribution_index.Rows(begin, end - begin);
        part.topk_weights = args.topk_weights.Rows(begin, end - begin);
        part.residual = args.residual.Rows(begin, end - begin);
        reference::Combine(part);
      });
}

}  // namespace moed::fast
