#include "kernels/cpu/cpu_memory.h"

#include <unistd.h>

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/check_weights.h"
#include "kernels/core/checked_math.h"
#include "kernels/core/status.h"

namespace moed {
namespace {

int64_t MachineBytes() {
  const int64_t pages = sysconf(_SC_PHYS_PAGES);
  const int64_t page_bytes = sysconf(_SC_PAGESIZE);
  return CheckedMul(pages, page_bytes).value_or(0);
}

}  // namespace

CpuMemory::CpuMemory() : machine_bytes_(MachineBytes()), counters_(std::make_shared<Counters>()) {}

absl::StatusOr<Buffer> CpuMemory::Allocate(MemoryKind kind, int64_t bytes) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot allocate ", bytes, " bytes for ", MemoryKindName(kind)));
  }
  int64_t in_use = 0;
  for (const auto& counter : *counters_) in_use += counter.load(std::memory_order_relaxed);
  if (bytes > machine_bytes_ - in_use) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "cannot allocate ", bytes, " bytes for ", MemoryKindName(kind), ": the machine has ",
        machine_bytes_, " bytes, of which this rank holds ", in_use));
  }
  MOED_ASSIGN_OR_RETURN(Buffer memory, AllocateHostBuffer(bytes));
  std::atomic<int64_t>& counter = (*counters_)[static_cast<size_t>(kind)];
  counter.fetch_add(bytes, std::memory_order_relaxed);
  void* data = memory.data();
  auto owner = std::make_shared<Buffer>(std::move(memory));
  return Buffer(data, bytes, [owner, counters = counters_, kind, bytes](void*) {
    (*counters)[static_cast<size_t>(kind)].fetch_sub(bytes, std::memory_order_relaxed);
  });
}

int64_t CpuMemory::allocated_bytes(MemoryKind kind) const {
  return (*counters_)[static_cast<size_t>(kind)].load(std::memory_order_relaxed);
}

}  // namespace moed
