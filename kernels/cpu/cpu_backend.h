// The CPU behind the compute seam.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/backend.h"
#include "kernels/core/dtype.h"
#include "kernels/core/thread_pool.h"

namespace moed {

// Which set of kernels computes. One process may hold several; each keeps the "same bits" promise
// of kernels/backend.h with itself, and agrees with the others within rounding.
enum class CpuIsa : uint8_t {
  kReference,   // plain loops on the caller's thread: slow, short, the measure of the others
  kPortable,    // any CPU; on x86-64 it uses AVX2 and FMA where the CPU has them
  kAvx512Bf16,  // AVX-512 F, BW, DQ, VL and BF16
};

// "reference", "portable" or "avx512bf16".
absl::string_view CpuIsaName(CpuIsa isa);

// Whether this CPU and operating system can run `isa`.
bool CpuSupports(CpuIsa isa);

// A name of CpuIsaName, or "auto": the fastest that this CPU supports. INVALID_ARGUMENT for another
// name, FAILED_PRECONDITION naming the instruction set where this CPU lacks it.
absl::StatusOr<CpuIsa> ParseCpuIsa(absl::string_view name);

struct CpuBackendOptions {
  CpuIsa isa = CpuIsa::kPortable;
  DType activation_dtype = DType::kFloat32;  // kFloat32 or kBFloat16
  std::shared_ptr<ThreadPool> pool;          // shared by all ranks; null: one thread, the caller's
};

// INVALID_ARGUMENT for another dtype, FAILED_PRECONDITION where the CPU lacks `isa`. Weights packed
// by one backend serve every backend made with the same isa and dtype.
absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuBackendOptions& options);

}  // namespace moed
