// Takes SamplingRows, with lists of any length, to the device through page-locked memory of a fixed
// size.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_stream.h"
#include "kernels/cuda/sampled_row.h"

namespace moed::cuda {

// Whether a row has a list that changes its logits.
bool HasLists(const SamplingRow& row);

// Two buffers take turns: while the copy out of one is under way the other is filled. So a call
// waits only where its lists fill both, or where the two copies before it have not yet run.
class RowStaging {
 public:
  // For at most max_rows rows a call.
  static absl::StatusOr<std::unique_ptr<RowStaging>> Create(CudaMemory& memory, int64_t max_rows);
  // Device memory that Create takes.
  static int64_t DeviceBytes(int64_t max_rows);
  ~RowStaging();
  RowStaging(const RowStaging&) = delete;
  RowStaging& operator=(const RowStaging&) = delete;

  // Enqueues copies of the rows to rows(), and of their lists in one or more pieces; the rows with
  // lists get the keys_slots 0, 1, and so on. `apply(n)` is called after the copy of n pieces and
  // enqueues what reads them. Host memory of the rows has been read when this returns. Aborts on
  // ids outside the vocabulary and numbers that are not finite.
  void Send(CudaStream& stream, absl::Span<const SamplingRow> rows, int64_t vocab,
            absl::FunctionRef<void(int64_t num_pieces)> apply);

  // On the device; what `apply` and later work on the stream may read until the next Send.
  const SampledRow* rows() const;
  const TokenListPiece* pieces() const;
  const uint32_t* words() const;

 private:
  // Page-locked memory, laid out as the device's.
  struct Half {
    Buffer memory;
    void* copied = nullptr;  // event: the last copy out of it has run
    bool in_flight = false;
  };
  class Filling;

  RowStaging(const CudaApi& api, int64_t max_rows);
  absl::Status Allocate(CudaMemory& memory);
  int64_t pieces_offset() const { return PiecesOffset(max_rows_); }
  int64_t words_offset() const { return WordsOffset(max_rows_); }
  static int64_t PiecesOffset(int64_t max_rows);
  static int64_t WordsOffset(int64_t max_rows);

  const CudaApi& api_;
  const int64_t max_rows_;
  Half halves_[2];
  int next_ = 0;  // the half to fill
  Buffer device_;
};

}  // namespace moed::cuda
