// cuBLASLt counts by columns: the row-major out[m, n] = x[m, k] weight[n, k]^T is the column-major
// D(n x m) = op_T(A) B with A = weight (k x n, leading dimension k) and B = x (k x m), form TN.
#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "parallel/cuda/plugin/real_tables.h"

namespace moed::cuda {
namespace {

static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof(GemmAlgorithm::data));

constexpr int kMaxAlgorithms = 32;
// Rows of x begin where the caller's view does, at no more than this.
constexpr uint32_t kAlignmentBytes = 16;

cublasLtHandle_t AsHandle(void* handle) { return static_cast<cublasLtHandle_t>(handle); }

cudaDataType_t TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kBFloat16:
      return CUDA_R_16BF;
    case DType::kFloat16:
      return CUDA_R_16F;
    default:
      return CUDA_R_32F;
  }
}

cublasLtMatmulAlgo_t AlgorithmOf(const GemmAlgorithm& algorithm) {
  cublasLtMatmulAlgo_t algo;
  std::memcpy(&algo, algorithm.data.data(), sizeof(algo));
  return algo;
}

// The library's description of a shape, on the stack: made for each call without an allocation.
struct Product {
  explicit Product(const GemmShape& shape) {
    // COMPUTE_32F, not its TF32 sibling: float32 inputs keep their 24 bits.
    Note(cublasLtMatmulDescInit(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const cublasOperation_t transposed = CUBLAS_OP_T;
    Note(cublasLtMatmulDescSetAttribute(&operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                        sizeof(transposed)));
    const auto m = static_cast<uint64_t>(shape.m);
    const auto n = static_cast<uint64_t>(shape.n);
    const auto k = static_cast<uint64_t>(shape.k);
    Note(cublasLtMatrixLayoutInit(&weight, TypeOf(shape.in_dtype), k, n, shape.k));
    Note(cublasLtMatrixLayoutInit(&x, TypeOf(shape.in_dtype), k, m, shape.k));
    Note(cublasLtMatrixLayoutInit(&out, TypeOf(shape.out_dtype), n, m, shape.n));
  }

  void Note(cublasStatus_t status) {
    if (error == CUBLAS_STATUS_SUCCESS) error = status;
  }

  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t weight;
  cublasLtMatrixLayoutOpaque_t x;
  cublasLtMatrixLayoutOpaque_t out;
  cublasStatus_t error = CUBLAS_STATUS_SUCCESS;
};

GemmError Create(void** handle) {
  cublasLtHandle_t created = nullptr;
  const cublasStatus_t status = cublasLtCreate(&created);
  *handle = created;
  return status;
}

GemmError Destroy(void* handle) { return cublasLtDestroy(AsHandle(handle)); }

GemmError FindAlgorithms(void* handle, const GemmShape& shape, int64_t max_workspace_bytes,
                         int max_algorithms, GemmAlgorithm* algorithms, int* num_algorithms) {
  *num_algorithms = 0;
  Product product(shape);
  cublasLtMatmulPreferenceOpaque_t preference;
  product.Note(cublasLtMatmulPreferenceInit(&preference));
  const auto workspace = static_cast<uint64_t>(max_workspace_bytes);
  product.Note(cublasLtMatmulPreferenceSetAttribute(
      &preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof(workspace)));
  // Parts of a split K meet in float32; the other schemes would round each to the output's type.
  constexpr uint32_t kReductions =
      CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  product.Note(cublasLtMatmulPreferenceSetAttribute(
      &preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &kReductions, sizeof(kReductions)));
  for (const cublasLtMatmulPreferenceAttributes_t alignment :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    product.Note(cublasLtMatmulPreferenceSetAttribute(&preference, alignment, &kAlignmentBytes,
                                                      sizeof(kAlignmentBytes)));
  }
  if (product.error != CUBLAS_STATUS_SUCCESS) return product.error;
  std::array<cublasLtMatmulHeuristicResult_t, kMaxAlgorithms> results;
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      AsHandle(handle), &product.operation, &product.weight, &product.x, &product.out, &product.out,
      &preference, std::min(max_algorithms, kMaxAlgorithms), results.data(), &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return CUBLAS_STATUS_SUCCESS;  // none of them
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  for (int i = 0; i < found; ++i) {
    const cublasLtMatmulHeuristicResult_t& result = results[static_cast<size_t>(i)];
    if (result.state != CUBLAS_STATUS_SUCCESS) continue;
    GemmAlgorithm& algorithm = algorithms[(*num_algorithms)++];
    std::memcpy(algorithm.data.data(), &result.algo, sizeof(result.algo));
    algorithm.workspace_bytes = static_cast<int64_t>(result.workspaceSize);
  }
  return CUBLAS_STATUS_SUCCESS;
}

bool IsUsable(void* handle, const GemmShape& shape, const GemmAlgorithm& algorithm,
              int64_t max_workspace_bytes) {
  Product product(shape);
  if (product.error != CUBLAS_STATUS_SUCCESS) return false;
  const cublasLtMatmulAlgo_t algo = AlgorithmOf(algorithm);
  cublasLtMatmulHeuristicResult_t result = {};  // whether the state is written is not promised
  const cublasStatus_t status =
      cublasLtMatmulAlgoCheck(AsHandle(handle), &product.operation, &product.weight, &product.x,
                              &product.out, &product.out, &algo, &result);
  return status == CUBLAS_STATUS_SUCCESS && result.state == CUBLAS_STATUS_SUCCESS &&
         static_cast<int64_t>(result.workspaceSize) <= max_workspace_bytes;
}

GemmError Multiply(void* handle, const GemmShape& shape, const GemmAlgorithm& algorithm,
                   const void* x, const void* weight, void* out, void* workspace,
                   int64_t workspace_bytes, void* stream) {
  Product product(shape);
  if (product.error != CUBLAS_STATUS_SUCCESS) return product.error;
  const cublasLtMatmulAlgo_t algo = AlgorithmOf(algorithm);
  const float alpha = 1.0F;
  const float beta = shape.accumulate ? 1.0F : 0.0F;
  return cublasLtMatmul(AsHandle(handle), &product.operation, &alpha, weight, &product.weight, x,
                        &product.x, &beta, out, &product.out, out, &product.out, &algo, workspace,
                        static_cast<size_t>(workspace_bytes), static_cast<cudaStream_t>(stream));
}

int64_t Version() { return static_cast<int64_t>(cublasLtGetVersion()); }

const char* ErrorName(GemmError error) {
  return cublasLtGetStatusName(static_cast<cublasStatus_t>(error));
}

}  // namespace

const GemmApi& RealGemmApi() {
  static constexpr GemmApi kApi = {
      .create = Create,
      .destroy = Destroy,
      .find_algorithms = FindAlgorithms,
      .is_usable = IsUsable,
      .multiply = Multiply,
      .version = Version,
      .error_name = ErrorName,
  };
  return kApi;
}

}  // namespace moed::cuda
