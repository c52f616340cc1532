#include "runtime/engine/logprob_rows.h"

#include <algorithm>

#include "kernels/core/dtype.h"
#include "kernels/core/status.h"
#include "runtime/model/tensor_bytes.h"

namespace moed {

int64_t LogprobRows::Bytes(int64_t max_rows) {
  return TensorBytes(DType::kInt32, {max_rows, 1 + 2 * kMaxLogprobs});
}

absl::StatusOr<LogprobRows> LogprobRows::Create(Backend& backend, int64_t max_rows) {
  const int64_t row_bytes = TensorBytes(DType::kFloat32, {max_rows});
  const int64_t top_bytes = TensorBytes(DType::kInt32, {max_rows, kMaxLogprobs});
  const auto on_device = [&backend](int64_t bytes) {
    return backend.Allocate(MemoryKind::kActivations, bytes);
  };
  LogprobRows rows;
  MOED_ASSIGN_OR_RETURN(rows.device_.logprobs, on_device(row_bytes));
  MOED_ASSIGN_OR_RETURN(rows.device_.top_ids, on_device(top_bytes));
  MOED_ASSIGN_OR_RETURN(rows.device_.top_logprobs, on_device(top_bytes));
  MOED_ASSIGN_OR_RETURN(rows.host_.logprobs, backend.AllocateStaging(row_bytes));
  MOED_ASSIGN_OR_RETURN(rows.host_.top_ids, backend.AllocateStaging(top_bytes));
  MOED_ASSIGN_OR_RETURN(rows.host_.top_logprobs, backend.AllocateStaging(top_bytes));
  return rows;
}

TensorView LogprobRows::logprobs(int64_t rows) const {
  return device_.logprobs.View(DType::kFloat32, {rows});
}
TensorView LogprobRows::top_ids(int64_t rows) const {
  return device_.top_ids.View(DType::kInt32, {rows, kMaxLogprobs});
}
TensorView LogprobRows::top_logprobs(int64_t rows) const {
  return device_.top_logprobs.View(DType::kFloat32, {rows, kMaxLogprobs});
}

void LogprobRows::Fetch(Backend& backend, Stream& stream, int64_t rows, bool with_top) {
  backend.CopyToHost(stream, logprobs(rows), host_.logprobs.View(DType::kFloat32, {rows}));
  if (!with_top) return;
  backend.CopyToHost(stream, top_ids(rows),
                     host_.top_ids.View(DType::kInt32, {rows, kMaxLogprobs}));
  backend.CopyToHost(stream, top_logprobs(rows),
                     host_.top_logprobs.View(DType::kFloat32, {rows, kMaxLogprobs}));
}

void LogprobRows::Read(int64_t row, int32_t num_top, SampledToken& token) const {
  token.logprob = static_cast<const float*>(host_.logprobs.data())[row];
  num_top = std::min<int32_t>(num_top, kMaxLogprobs);
  if (num_top <= 0) return;
  const auto* ids = static_cast<const int32_t*>(host_.top_ids.data()) + row * kMaxLogprobs;
  const auto* logprobs = static_cast<const float*>(host_.top_logprobs.data()) + row * kMaxLogprobs;
  token.top_logprobs.reserve(static_cast<size_t>(num_top));
  // Past the vocabulary there are no ids.
  for (int32_t i = 0; i < num_top && ids[i] >= 0; ++i) {
    token.top_logprobs.emplace_back(ids[i], logprobs[i]);
  }
}

}  // namespace moed
