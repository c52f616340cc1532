// A CUDA device behind the compute seam.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/dtype.h"
#include "kernels/cuda/cuda_api.h"
#include "kernels/cuda/gemm_api.h"

namespace moed::cuda {

struct CudaBackendOptions {
  const CudaApi* api = nullptr;       // outlives the backend and its buffers
  const GemmApi* gemm_api = nullptr;  // may be null: our own kernels compute every product
  int device = 0;
  DType activation_dtype = DType::kBFloat16;  // kFloat32 or kBFloat16
  // The same bits for a row whatever else is computed with it (kernels/backend.h): one kernel and
  // one order of K for each weight, and never cuBLASLt. Without it products agree within rounding.
  bool deterministic = false;
};

// Why the kernels cannot run on the device, "has compute capability 7.5; ..."; empty where they
// can.
std::string WhyUnusable(const CudaDeviceInfo& device);

// INVALID_ARGUMENT for another dtype or a device that does not exist, FAILED_PRECONDITION for a
// device below compute capability 8.0; otherwise the runtime's error. Weights packed by one serve
// every backend of the process on the same device with the same options.
absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions& options);

}  // namespace moed::cuda
