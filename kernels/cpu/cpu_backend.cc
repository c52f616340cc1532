#include "kernels/cpu/cpu_backend.h"

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/fast/fast_backend.h"
#include "kernels/cpu/reference/reference_backend.h"
#include "kernels/cpu/simd/isa_kernels.h"

namespace moed {
namespace {

absl::Status CheckSupported(CpuIsa isa) {
  if (CpuSupports(isa)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("this CPU cannot run the \"", CpuIsaName(isa),
                   "\" kernels: it lacks AVX-512 F, BW, DQ, VL or BF16; use \"auto\""));
}

// The table of a supported `isa`, not kReference.
const IsaKernels& KernelsOf([[maybe_unused]] CpuIsa isa) {
#if defined(__x86_64__)
  if (isa == CpuIsa::kAvx512Bf16) return Avx512Bf16Kernels();
  if (GetCpuFeatures().avx2_fma) return Avx2Kernels();
#endif
  return BaselineKernels();
}

}  // namespace

absl::string_view CpuIsaName(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kReference:
      return "reference";
    case CpuIsa::kPortable:
      return "portable";
    case CpuIsa::kAvx512Bf16:
      return "avx512bf16";
  }
  return "unknown";
}

bool CpuSupports(CpuIsa isa) { return isa != CpuIsa::kAvx512Bf16 || GetCpuFeatures().avx512_bf16; }

absl::StatusOr<CpuIsa> ParseCpuIsa(absl::string_view name) {
  if (name == "auto") {
    return CpuSupports(CpuIsa::kAvx512Bf16) ? CpuIsa::kAvx512Bf16 : CpuIsa::kPortable;
  }
  for (const CpuIsa isa : {CpuIsa::kReference, CpuIsa::kPortable, CpuIsa::kAvx512Bf16}) {
    if (name != CpuIsaName(isa)) continue;
    MOED_RETURN_IF_ERROR(CheckSupported(isa));
    return isa;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown CPU kernels \"", name, "\": expected auto, reference, portable or avx512bf16"));
}

absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuBackendOptions& options) {
  MOED_RETURN_IF_ERROR(CheckSupported(options.isa));
  const DType dtype = options.activation_dtype;
  if (dtype != DType::kFloat32 && dtype != DType::kBFloat16) {
    return absl::InvalidArgumentError(
        absl::StrCat("activations on the CPU are float32 or bfloat16, not ", DTypeName(dtype)));
  }
  std::shared_ptr<ThreadPool> pool =
      options.pool != nullptr ? options.pool : std::make_shared<ThreadPool>(1);
  if (options.isa == CpuIsa::kReference) {
    return std::make_unique<ReferenceBackend>(dtype, std::move(pool));
  }
  return std::make_unique<FastBackend>(KernelsOf(options.isa), dtype, std::move(pool));
}

}  // namespace moed
