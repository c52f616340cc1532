#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/core/check.h"
#include "kernels/cpu/reference/reference_ops.h"

namespace moed::reference {

void GatherRows(const GatherRowsArgs& args) {
  if (args.out.empty()) return;
  const int64_t row_bytes = args.out.bytes() / args.out.dim(0);
  const int32_t* row_index = args.row_index.data<int32_t>();
  const auto* x = static_cast<const std::byte*>(args.x.raw());
  auto* out = static_cast<std::byte*>(args.out.raw());
  for (int64_t r = 0; r < args.out.dim(0); ++r) {
    MOED_CHECK(row_index[r] >= 0 && row_index[r] < args.x.dim(0),
               "GatherRows: a row index is out of range");
    std::memcpy(out + r * row_bytes, x + row_index[r] * row_bytes, static_cast<size_t>(row_bytes));
  }
}

}  // namespace moed::reference
