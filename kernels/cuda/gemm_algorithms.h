// Which of cuBLASLt's algorithms computes which product: found once, then kept.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/core/buffer.h"
#include "kernels/cuda/cuda_stream.h"
#include "kernels/cuda/gemm_api.h"

namespace moed::cuda {

// Used by the rank's thread.
class GemmAlgorithms {
 public:
  // `api` outlives the object. The library's error where it cannot start.
  static absl::StatusOr<std::unique_ptr<GemmAlgorithms>> Create(const GemmApi& api);
  ~GemmAlgorithms();
  GemmAlgorithms(const GemmAlgorithms&) = delete;
  GemmAlgorithms& operator=(const GemmAlgorithms&) = delete;

  // Device memory that products may use from now on. Forgets what was found with less or more.
  void SetWorkspace(Buffer workspace);

  // Finds the algorithms of all buckets that hold an m in [1, max_m]; shape.m is not read.
  absl::Status Prepare(GemmShape shape, int64_t max_m);

  // The algorithm for the shape's bucket of m, if it can compute this m too; null where the library
  // has none. A failure is noted on the stream. The pointer stays valid until SetWorkspace.
  const GemmAlgorithm* Find(CudaStream& stream, const GemmShape& shape);

  // Enqueues the product; a failure is noted with the shape. Addresses are multiples of 16 bytes.
  void Multiply(CudaStream& stream, const GemmShape& shape, const GemmAlgorithm& algorithm,
                const void* x, const void* weight, void* out);

 private:
  struct Entry {
    GemmAlgorithm algorithm;
    bool found = false;
    int64_t checked_m = 0;  // the m of the last call, and
    bool usable = false;    // whether the algorithm can compute it
  };
  // n, k, m's bucket, input and output dtype, accumulate.
  using Key = std::tuple<int64_t, int64_t, int64_t, DType, DType, bool>;

  GemmAlgorithms(const GemmApi& api, void* handle) : api_(api), handle_(handle) {}

  absl::Status Error(const char* what, const GemmShape& shape, GemmError error) const;
  absl::StatusOr<Entry*> Lookup(GemmShape shape);

  const GemmApi& api_;
  void* const handle_;
  Buffer workspace_;
  std::map<Key, Entry> entries_;
};

}  // namespace moed::cuda
