// The plain CPU backend for tests that load weights.
#pragma once

#include <memory>
#include <utility>

#include "kernels/core/check.h"
#include "kernels/cpu/cpu_backend.h"

namespace moed {

inline std::unique_ptr<Backend> MakeReferenceBackend(DType activation_dtype = DType::kFloat32) {
  CpuBackendOptions options;
  options.isa = CpuIsa::kReference;
  options.activation_dtype = activation_dtype;
  auto backend = MakeCpuBackend(options);
  MOED_CHECK(backend.ok(), "a reference backend for a test");
  return std::move(backend).value();
}

}  // namespace moed
