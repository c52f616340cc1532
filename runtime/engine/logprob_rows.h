// Log probabilities of tokens, on the device and their copy on the host.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/buffer.h"
#include "kernels/core/stream.h"
#include "kernels/core/tensor_view.h"
#include "runtime/schedule/batch_plan.h"

namespace moed {

// Outputs of SampleArgs and TokenLogprobsArgs for a fixed number of rows.
class LogprobRows {
 public:
  // Device memory of Create (MemoryKind::kActivations); at most kUncountableBytes.
  static int64_t Bytes(int64_t max_rows);
  static absl::StatusOr<LogprobRows> Create(Backend& backend, int64_t max_rows);

  TensorView logprobs(int64_t rows) const;      // [rows] float32
  TensorView top_ids(int64_t rows) const;       // [rows, kMaxLogprobs] int32
  TensorView top_logprobs(int64_t rows) const;  // [rows, kMaxLogprobs] float32

  // Enqueues the copy of the first rows, with the alternatives where `with_top`.
  void Fetch(Backend& backend, Stream& stream, int64_t rows, bool with_top);
  // Once the stream has run Fetch: the token's log probability and its first num_top alternatives,
  // as many as there are.
  void Read(int64_t row, int32_t num_top, SampledToken& token) const;

 private:
  struct Memory {
    Buffer logprobs;
    Buffer top_ids;
    Buffer top_logprobs;
  };
  Memory device_;
  Memory host_;
};

}  // namespace moed
