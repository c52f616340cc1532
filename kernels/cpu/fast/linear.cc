#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/fast/fast_ops.h"
#include "kernels/cpu/fast/packed_matrix.h"
#include "kernels/cpu/fast/panel_product.h"

namespace moed::fast {

// Items are (block of rows, panel), blocks outermost: neighbours share the rows, and one row's
// product reads the weights once in their order.
void Linear(const Context& context, const LinearArgs& args) {
  const auto* weight = dynamic_cast<const PackedLinear*>(args.weight);
  MOED_CHECK(weight != nullptr && weight->matrix().dtype() == context.act,
             "Linear: the weight was packed by another kind of backend");
  if (args.out.empty()) return;
  const IsaKernels& isa = context.isa;
  const PackedMatrix& matrix = weight->matrix();
  const ProductRows rows = ReadyRows(context, args.x, nullptr);
  const int64_t num_rows = args.x.dim(0);
  const int64_t out_features = weight->out_features();
  const int64_t block_rows = std::min(num_rows, kProductRowBlock);
  const int64_t num_blocks = (num_rows + block_rows - 1) / block_rows;
  const int64_t num_items = num_blocks * matrix.num_panels();
  const int64_t item_work = PanelWork(isa, matrix.in_features(), block_rows);
  const int64_t element_bytes = DTypeBytes(args.out.dtype());

  const auto store = [&](const float* c, int64_t row, int64_t column) {
    const int64_t count = std::min<int64_t>(isa.panel_columns, out_features - column);
    std::byte* out =
        static_cast<std::byte*>(args.out.raw()) + (row * out_features + column) * element_bytes;
    if (!args.accumulate) return StoreRow(isa, c, count, args.out.dtype(), out);
    float* sums = reinterpret_cast<float*>(out);
    for (int64_t i = 0; i < count; ++i) sums[i] += c[i];
  };
  context.pool.ParallelFor(
      num_items, Grain(context.pool, num_items, item_work), [&](int64_t begin, int64_t end) {
        const ScratchSlots::Lease lease(context.workspace.slots);
        float* c = lease.data<float>();
        for (int64_t item = begin; item < end; ++item) {
          const int64_t panel = item % matrix.num_panels();
          const int64_t first = item / matrix.num_panels() * block_rows;
          const int64_t count = std::min(block_rows, num_rows - first);
          MultiplyPanel(isa, matrix, panel, rows, first, count, c);
          for (int64_t i = 0; i < count; ++i) {
            store(c + i * isa.panel_columns, first + i, panel * isa.panel_columns);
          }
        }
      });
}

}  // namespace moed::fast
