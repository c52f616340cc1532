#include "tests/cuda_host/host_gemm.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "kernels/core/float_types.h"
#include "tests/cuda_host/host_memory.h"
#include "tests/cuda_host/host_work.h"

namespace moed::cuda_host {
namespace {

using cuda::GemmAlgorithm;
using cuda::GemmError;
using cuda::GemmShape;

constexpr GemmError kSuccess = 0;
constexpr GemmError kNotInitialized = 1;
constexpr GemmError kInvalidValue = 7;
constexpr GemmError kNotSupported = 15;

constexpr int kNumKinds = 3;
// How k is cut. Every kind adds up the products of a piece, then the pieces, in order.
enum Kind : uint64_t {
  kWhole = 0,   // one piece
  kPieces = 1,  // of 64
  kSplit = 2,   // four, which meet in the workspace; up to kMaxSplitRows rows
};
constexpr int64_t kPieceLength = 64;
constexpr int64_t kNumSplits = 4;
constexpr int64_t kMaxSplitRows = 64;

struct Handle {
  std::atomic<bool> in_use{false};
};

struct Library {
  HostCalls calls;
  std::atomic<int> max_found{GemmSettings().max_found};
  std::atomic<int64_t> max_usable_m{GemmSettings().max_usable_m};
  std::atomic<int> num_handles{0};
};

Library& TheLibrary() {
  static Library& library = *new Library;
  return library;
}

// A handle is in the hands of one thread while one of these lives.
class HandleUse {
 public:
  explicit HandleUse(void* handle) : handle_(*static_cast<Handle*>(handle)) {
    if (handle_.in_use.exchange(true)) Misuse("a cuBLASLt handle is used by two threads at once");
  }
  ~HandleUse() { handle_.in_use = false; }
  HandleUse(const HandleUse&) = delete;
  HandleUse& operator=(const HandleUse&) = delete;

 private:
  Handle& handle_;
};

bool IsSupported(const GemmShape& shape) {
  const bool in_ok = shape.in_dtype == DType::kFloat32 || shape.in_dtype == DType::kBFloat16;
  const bool out_ok = shape.out_dtype == DType::kFloat32 || shape.out_dtype == shape.in_dtype;
  return in_ok && out_ok && (!shape.accumulate || shape.out_dtype == DType::kFloat32);
}

int64_t WorkspaceOf(Kind kind, const GemmShape& shape) {
  // For the most rows that the algorithm takes, so that it fits all of them.
  return kind == kSplit ? kNumSplits * kMaxSplitRows * shape.n * 4 : 0;
}

GemmAlgorithm Describe(Kind kind, const GemmShape& shape) {
  GemmAlgorithm algorithm;
  algorithm.data = {0x6d6f6564,
                    kind,
                    static_cast<uint64_t>(shape.n),
                    static_cast<uint64_t>(shape.k),
                    static_cast<uint64_t>(shape.in_dtype),
                    static_cast<uint64_t>(shape.out_dtype)};
  algorithm.workspace_bytes = WorkspaceOf(kind, shape);
  return algorithm;
}

bool Fits(const GemmShape& shape, const GemmAlgorithm& algorithm, int64_t max_workspace_bytes) {
  const auto kind = static_cast<Kind>(algorithm.data[1]);
  return IsSupported(shape) && kind < kNumKinds && algorithm.data == Describe(kind, shape).data &&
         WorkspaceOf(kind, shape) <= max_workspace_bytes &&
         (kind != kSplit || shape.m <= kMaxSplitRows) && shape.m <= TheLibrary().max_usable_m;
}

GemmError Create(void** handle) {
  if (const GemmError error = TheLibrary().calls.Next("create"); error != kSuccess) return error;
  *handle = new Handle;
  ++TheLibrary().num_handles;
  return kSuccess;
}

GemmError Destroy(void* handle) {
  if (const GemmError error = TheLibrary().calls.Next("destroy"); error != kSuccess) return error;
  if (handle == nullptr) return kNotInitialized;
  delete static_cast<Handle*>(handle);
  --TheLibrary().num_handles;
  return kSuccess;
}

GemmError FindAlgorithms(void* handle, const GemmShape& shape, int64_t max_workspace_bytes,
                         int max_algorithms, GemmAlgorithm* algorithms, int* num_algorithms) {
  if (const GemmError error = TheLibrary().calls.Next("find_algorithms"); error != kSuccess)
    return error;
  if (handle == nullptr) return kNotInitialized;
  const HandleUse use(handle);
  *num_algorithms = 0;
  if (shape.m <= 0 || shape.n <= 0 || shape.k <= 0 || max_algorithms <= 0) return kInvalidValue;
  if (!IsSupported(shape)) return kNotSupported;
  std::array<Kind, kNumKinds> best_first{kWhole, kPieces, kSplit};
  if (shape.m <= 256) best_first = {kPieces, kWhole, kSplit};
  if (shape.m <= 16) best_first = {kSplit, kPieces, kWhole};
  for (const Kind kind : best_first) {
    const GemmAlgorithm algorithm = Describe(kind, shape);
    if (*num_algorithms < std::min<int>(max_algorithms, TheLibrary().max_found) &&
        Fits(shape, algorithm, max_workspace_bytes)) {
      algorithms[(*num_algorithms)++] = algorithm;
    }
  }
  return kSuccess;
}

bool IsUsable(void* handle, const GemmShape& shape, const GemmAlgorithm& algorithm,
              int64_t max_workspace_bytes) {
  if (TheLibrary().calls.Next("is_usable") != kSuccess) return false;
  if (handle == nullptr || shape.m <= 0) return false;
  const HandleUse use(handle);
  return Fits(shape, algorithm, max_workspace_bytes);
}

std::vector<float> ToFloats(const void* values, DType dtype, int64_t count) {
  std::vector<float> floats(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    floats[static_cast<size_t>(i)] = dtype == DType::kFloat32
                                         ? static_cast<const float*>(values)[i]
                                         : ToFloat(static_cast<const BFloat16*>(values)[i]);
  }
  return floats;
}

float Dot(const float* x, const float* w, int64_t count) {
  std::array<float, 8> lanes{};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (size_t lane = 0; lane < 8; ++lane) lanes[lane] += x[i + lane] * w[i + lane];
  }
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  for (; i < count; ++i) sum += x[i] * w[i];
  return sum;
}

// Computes every element in pieces of k. `partials`: null, or [pieces, m, n] floats for them.
void Compute(const GemmShape& shape, int64_t piece_length, const void* x, const void* weight,
             void* out, float* partials) {
  const auto& [m, n, k, in_dtype, out_dtype, accumulate] = shape;
  const std::vector<float> xs = ToFloats(x, in_dtype, m * k);
  const std::vector<float> ws = ToFloats(weight, in_dtype, n * k);
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t column = 0; column < n; ++column) {
      const int64_t at = row * n + column;
      float sum = 0;
      for (int64_t begin = 0, piece = 0; begin < k; begin += piece_length, ++piece) {
        float part =
            Dot(&xs[static_cast<size_t>(row * k + begin)],
                &ws[static_cast<size_t>(column * k + begin)], std::min(piece_length, k - begin));
        if (partials != nullptr) {
          float& kept = partials[(piece * m + row) * n + column];
          kept = part;
          part = kept;
        }
        sum += part;
      }
      if (out_dtype == DType::kBFloat16) {
        static_cast<BFloat16*>(out)[at] = ToBFloat16(sum);
      } else {
        float& target = static_cast<float*>(out)[at];
        target = accumulate ? target + sum : sum;
      }
    }
  }
}

bool IsAligned(const void* memory) { return reinterpret_cast<uintptr_t>(memory) % 16 == 0; }

GemmError Multiply(void* handle, const GemmShape& shape, const GemmAlgorithm& algorithm,
                   const void* x, const void* weight, void* out, void* workspace,
                   int64_t workspace_bytes, void* stream) {
  if (const GemmError error = TheLibrary().calls.Next("multiply"); error != kSuccess) return error;
  if (handle == nullptr) return kNotInitialized;
  const HandleUse use(handle);
  if (shape.m <= 0 || shape.n <= 0 || shape.k <= 0 || x == nullptr || weight == nullptr ||
      out == nullptr || !IsAligned(x) || !IsAligned(weight) || !IsAligned(out) ||
      !IsAligned(workspace) || (workspace == nullptr && workspace_bytes > 0)) {
    return kInvalidValue;
  }
  if (!IsSupported(shape)) return kNotSupported;
  const auto kind = static_cast<Kind>(algorithm.data[1]);
  if (WorkspaceOf(kind, shape) > workspace_bytes) return kInvalidValue;
  if (!Fits(shape, algorithm, workspace_bytes)) return kNotSupported;

  const auto check = [=] {
    const int64_t in_bytes = DTypeBytes(shape.in_dtype);
    CheckDeviceMemory(x, static_cast<size_t>(shape.m * shape.k * in_bytes), "a product's x");
    CheckDeviceMemory(weight, static_cast<size_t>(shape.n * shape.k * in_bytes),
                      "a product's weight");
    CheckDeviceMemory(out, static_cast<size_t>(shape.m * shape.n * DTypeBytes(shape.out_dtype)),
                      "a product's result");
    if (workspace_bytes > 0) {
      CheckDeviceMemory(workspace, static_cast<size_t>(workspace_bytes), "a product's workspace");
    }
  };
  check();
  EnqueueWork(stream, [=] {
    check();
    int64_t piece_length = shape.k;
    if (kind == kPieces) piece_length = kPieceLength;
    if (kind == kSplit) piece_length = (shape.k + kNumSplits - 1) / kNumSplits;
    Compute(shape, piece_length, x, weight, out,
            kind == kSplit ? static_cast<float*>(workspace) : nullptr);
  });
  return kSuccess;
}

const char* ErrorName(GemmError error) {
  switch (error) {
    case kSuccess:
      return "CUBLAS_STATUS_SUCCESS";
    case kNotInitialized:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case 3:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case kInvalidValue:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case 8:
      return "CUBLAS_STATUS_ARCH_MISMATCH";
    case 13:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case 14:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
    case kNotSupported:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "CUBLAS_STATUS_UNKNOWN";
  }
}

}  // namespace

const cuda::GemmApi& HostGemmApi() {
  static const cuda::GemmApi api{
      .create = Create,
      .destroy = Destroy,
      .find_algorithms = FindAlgorithms,
      .is_usable = IsUsable,
      .multiply = Multiply,
      .version = []() -> int64_t { return 130100; },
      .error_name = ErrorName,
  };
  return api;
}

void SetGemm(const GemmSettings& settings) {
  TheLibrary().max_found = settings.max_found;
  TheLibrary().max_usable_m = settings.max_usable_m;
  TheLibrary().calls.ClearFailures();
}

void FailGemmCall(const std::string& function, int nth, GemmError error) {
  TheLibrary().calls.Fail(function, nth, error, /*sticky=*/false);
}

CallCounts GemmCallCounts() { return TheLibrary().calls.counts(); }

void ResetGemmCallCounts() { TheLibrary().calls.ResetCounts(); }

int CountGemmHandles() { return TheLibrary().num_handles; }

}  // namespace moed::cuda_host
