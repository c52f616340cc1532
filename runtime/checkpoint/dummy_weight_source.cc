#include "runtime/checkpoint/dummy_weight_source.h"

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "kernels/core/checked_math.h"
#include "kernels/core/float_types.h"
#include "kernels/core/seeded_values.h"
#include "kernels/core/status.h"
#include "runtime/checkpoint/error_text.h"
#include "runtime/checkpoint/shape_view.h"

namespace moed {
namespace {

uint64_t TensorKey(uint64_t seed, absl::string_view name) {
  uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3ULL;
  return Scatter(hash ^ Scatter(seed + kGoldenGamma));
}

bool IsNorm(absl::string_view name) { return absl::EndsWith(name, "norm.weight"); }

template <typename T>
void Fill(T* data, int64_t count, absl::string_view name, uint64_t seed) {
  if (IsNorm(name)) {
    for (int64_t i = 0; i < count; ++i) data[i] = FromFloat<T>(1.0F);
    return;
  }
  const uint64_t key = TensorKey(seed, name);
  for (int64_t i = 0; i < count; ++i) data[i] = FromFloat<T>(SeededElement(key, i));
}

}  // namespace

DummyWeightSource::DummyWeightSource(uint64_t seed, DType dtype) : seed_(seed), dtype_(dtype) {
  MOED_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16,
             "dummy weights are float32 or bfloat16");
}

std::optional<SeededTensor> DummyWeightSource::Seeded(absl::string_view name) const {
  if (IsNorm(name)) return std::nullopt;
  return SeededTensor{.key = TensorKey(seed_, name), .dtype = dtype_};
}

absl::StatusOr<LoadedTensor> DummyWeightSource::Load(absl::string_view name,
                                                     const std::vector<int64_t>& shape) {
  std::optional<int64_t> bytes = DTypeBytes(dtype_);
  for (const int64_t dim : shape) {
    if (bytes) bytes = dim > 0 ? CheckedMul(*bytes, dim) : std::nullopt;
  }
  if (!bytes || shape.empty() || shape.size() > ConstTensorView::kMaxRank) {
    return TensorError("dummy weights", name, "a shape of one to four positive dimensions",
                       ShapeText(shape));
  }
  MOED_ASSIGN_OR_RETURN(Buffer storage, AllocateHostBuffer(*bytes));
  const int64_t count = *bytes / DTypeBytes(dtype_);
  if (dtype_ == DType::kFloat32) {
    Fill(static_cast<float*>(storage.data()), count, name, seed_);
  } else {
    Fill(static_cast<BFloat16*>(storage.data()), count, name, seed_);
  }
  const ConstTensorView view = ViewOfShape(storage.data(), dtype_, shape);
  return LoadedTensor{view, std::move(storage)};
}

}  // namespace moed
