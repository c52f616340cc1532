#include "kernels/core/buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/checked_math.h"

namespace moed {
namespace {

constexpr int64_t kCacheLineBytes = 64;
constexpr int64_t kHugePageBytes = int64_t{2} << 20;

}  // namespace

absl::StatusOr<Buffer> AllocateHostBuffer(int64_t bytes) {
  MOED_CHECK(bytes >= 0, "a buffer's size is negative");
  const int64_t alignment = bytes >= kHugePageBytes ? kHugePageBytes : kCacheLineBytes;
  // At least one byte: no bytes have an address of their own, too.
  const std::optional<int64_t> padded = CheckedAdd(std::max<int64_t>(bytes, 1), alignment - 1);
  if (!padded.has_value()) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", bytes, " bytes"));
  }
  const int64_t rounded = *padded / alignment * alignment;
  void* data = std::aligned_alloc(static_cast<size_t>(alignment), static_cast<size_t>(rounded));
  if (data == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", bytes, " bytes"));
  }
  if (alignment == kHugePageBytes) madvise(data, static_cast<size_t>(rounded), MADV_HUGEPAGE);
  std::memset(data, 0, static_cast<size_t>(bytes));
  return Buffer(data, bytes, [](void* memory) { std::free(memory); });
}

}  // namespace moed
