#include "kernels/cuda/gemm_algorithms.h"

#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"

namespace moed::cuda {
namespace {

// The largest m of the bucket that holds m > 0: a power of two.
int64_t BucketOf(int64_t m) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(m)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<GemmAlgorithms>> GemmAlgorithms::Create(const GemmApi& api) {
  void* handle = nullptr;
  const GemmError error = api.create(&handle);
  if (error != 0) {
    return absl::InternalError(absl::StrCat(
        "starting the library of matrix products: ", api.error_name(error), " (", error, ")"));
  }
  return std::unique_ptr<GemmAlgorithms>(new GemmAlgorithms(api, handle));
}

GemmAlgorithms::~GemmAlgorithms() { api_.destroy(handle_); }

void GemmAlgorithms::SetWorkspace(Buffer workspace) {
  entries_.clear();
  workspace_ = std::move(workspace);
}

absl::Status GemmAlgorithms::Error(const char* what, const GemmShape& shape,
                                   GemmError error) const {
  return absl::InternalError(absl::StrCat(
      what, " for a matrix product of m = ", shape.m, ", n = ", shape.n, ", k = ", shape.k, ", ",
      DTypeName(shape.in_dtype), " to ", DTypeName(shape.out_dtype),
      shape.accumulate ? " (added to)" : "", ": ", api_.error_name(error), " (", error, ")"));
}

absl::StatusOr<GemmAlgorithms::Entry*> GemmAlgorithms::Lookup(GemmShape shape) {
  shape.m = BucketOf(shape.m);
  const auto [place, is_new] = entries_.try_emplace(
      Key{shape.n, shape.k, shape.m, shape.in_dtype, shape.out_dtype, shape.accumulate});
  Entry& entry = place->second;
  if (!is_new) return &entry;
  int num_found = 0;
  const GemmError error =
      api_.find_algorithms(handle_, shape, workspace_.bytes(), 1, &entry.algorithm, &num_found);
  if (error != 0) {
    entries_.erase(place);
    return Error("finding an algorithm", shape, error);
  }
  entry.found = num_found > 0;
  entry.checked_m = shape.m;
  entry.usable = entry.found;
  return &entry;
}

absl::Status GemmAlgorithms::Prepare(GemmShape shape, int64_t max_m) {
  for (shape.m = 1;; shape.m *= 2) {
    MOED_RETURN_IF_ERROR(Lookup(shape).status());
    if (shape.m >= max_m) return absl::OkStatus();
  }
}

const GemmAlgorithm* GemmAlgorithms::Find(CudaStream& stream, const GemmShape& shape) {
  const absl::StatusOr<Entry*> found = Lookup(shape);
  if (!found.ok()) {
    stream.Note(found.status());
    return nullptr;
  }
  Entry& entry = **found;
  if (!entry.found) return nullptr;
  if (entry.checked_m != shape.m) {
    entry.checked_m = shape.m;
    entry.usable = api_.is_usable(handle_, shape, entry.algorithm, workspace_.bytes());
  }
  return entry.usable ? &entry.algorithm : nullptr;
}

void GemmAlgorithms::Multiply(CudaStream& stream, const GemmShape& shape,
                              const GemmAlgorithm& algorithm, const void* x, const void* weight,
                              void* out) {
  const GemmError error = api_.multiply(handle_, shape, algorithm, x, weight, out,
                                        workspace_.data(), workspace_.bytes(), stream.handle());
  if (error != 0) [[unlikely]]
    stream.Note(Error("enqueueing", shape, error));
}

}  // namespace moed::cuda
