#include "kernels/cuda/sampling.h"

#include <algorithm>
#include <utility>

#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "kernels/cuda/adjust_logits.h"
#include "kernels/cuda/choose_token.h"
#include "kernels/cuda/log_softmax.h"
#include "kernels/cuda/row_staging.h"

namespace moed::cuda {
namespace {

static_assert(kMaxLogprobs <= kMaxTopTokens);

// More rows than these go through the kernels in several pieces.
constexpr int64_t kMaxRowsAtOnce = 1024;
constexpr int64_t kMaxKeyBytes = int64_t{64} << 20;

struct Sizes {
  int64_t rows = 0;           // at once
  int64_t adjusted_rows = 0;  // of them, with lists
  int64_t key_bytes = 0;
};

Sizes SizesOf(const WorkspaceLimits& limits) {
  Sizes sizes;
  if (limits.max_logit_rows == 0 || limits.vocab == 0) return sizes;
  sizes.rows = std::min(limits.max_logit_rows, kMaxRowsAtOnce);
  const int64_t row_bytes = limits.vocab * static_cast<int64_t>(sizeof(uint32_t));
  sizes.adjusted_rows = std::clamp<int64_t>(kMaxKeyBytes / row_bytes, 1, sizes.rows);
  sizes.key_bytes = sizes.adjusted_rows * row_bytes;
  return sizes;
}

bool IsDrawn(const SamplingRow& row) { return row.temperature > 0; }

}  // namespace

class SamplingKernels::Impl {
 public:
  static absl::StatusOr<std::unique_ptr<Impl>> Create(CudaMemory& memory,
                                                      const WorkspaceLimits& limits) {
    auto impl = std::make_unique<Impl>();
    impl->max_vocab_ = limits.vocab;
    const Sizes sizes = SizesOf(limits);
    if (sizes.rows == 0) return impl;
    impl->max_rows_ = sizes.rows;
    impl->max_adjusted_rows_ = sizes.adjusted_rows;
    MOED_ASSIGN_OR_RETURN(impl->staging_, RowStaging::Create(memory, sizes.rows));
    MOED_ASSIGN_OR_RETURN(impl->keys_, memory.Allocate(MemoryKind::kWorkspace, sizes.key_bytes));
    return impl;
  }

  void Sample(CudaStream& stream, const SampleArgs& args) {
    const auto num_rows = static_cast<int64_t>(args.rows.size());
    const int64_t vocab = args.logits.dim(1);
    if (num_rows == 0) return;
    MOED_CHECK(vocab > 0, "Sample: the vocabulary is empty");
    MOED_CHECK(vocab <= max_vocab_ && staging_ != nullptr,
               "Sample: vocab exceeds the workspace's limits");
    for (int64_t begin = 0; begin < num_rows;) {
      const int64_t end = PieceEnd(args.rows, begin);
      ChooseTokens(stream, args, begin, end);
      begin = end;
    }
    LogSoftmaxParams params;
    params.logits = args.logits.data<float>();
    params.token = args.token_ids.data<int32_t>();
    params.num_rows = num_rows;
    params.vocab = vocab;
    params.logprobs = args.logprobs.data<float>();
    if (args.want_top) {
      params.num_top = kMaxLogprobs;
      params.top_ids = args.top_ids.data<int32_t>();
      params.top_logprobs = args.top_logprobs.data<float>();
    }
    stream.Note(LaunchLogSoftmax(stream.context(), params), "Sample");
  }

 private:
  // Rows from `begin` that fit at once.
  int64_t PieceEnd(absl::Span<const SamplingRow> rows, int64_t begin) const {
    int64_t end = begin;
    int64_t num_adjusted = 0;
    while (end < static_cast<int64_t>(rows.size()) && end - begin < max_rows_) {
      if (HasLists(rows[static_cast<size_t>(end)]) && ++num_adjusted > max_adjusted_rows_) break;
      ++end;
    }
    return end;
  }

  void ChooseTokens(CudaStream& stream, const SampleArgs& args, int64_t begin, int64_t end) {
    const int64_t vocab = args.logits.dim(1);
    const float* logits = args.logits.data<float>() + begin * vocab;
    const absl::Span<const SamplingRow> rows =
        args.rows.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    auto* keys = static_cast<uint32_t*>(keys_.data());
    staging_->Send(stream, rows, vocab, [&](int64_t num_pieces) {
      AdjustLogitsParams params;
      params.rows = staging_->rows();
      params.pieces = staging_->pieces();
      params.words = staging_->words();
      params.num_pieces = num_pieces;
      params.logits = logits;
      params.vocab = vocab;
      params.keys = keys;
      stream.Note(LaunchAdjustLogits(stream.context(), params), "Sample");
    });
    ChooseTokenParams params;
    params.rows = staging_->rows();
    params.logits = logits;
    params.keys = keys;
    params.num_rows = end - begin;
    params.vocab = vocab;
    params.any_draws = std::any_of(rows.begin(), rows.end(), IsDrawn);
    params.token_ids = args.token_ids.data<int32_t>() + begin;
    params.last_sampled = args.last_sampled.data<int32_t>();
    stream.Note(LaunchChooseToken(stream.context(), params), "Sample");
  }

  int64_t max_vocab_ = 0;
  int64_t max_rows_ = 0;           // at once
  int64_t max_adjusted_rows_ = 0;  // of them, with lists
  std::unique_ptr<RowStaging> staging_;
  Buffer keys_;  // [max_adjusted_rows_, vocab] uint32
};

SamplingKernels::SamplingKernels(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SamplingKernels::~SamplingKernels() = default;

absl::StatusOr<std::unique_ptr<SamplingKernels>> SamplingKernels::Create(
    CudaMemory& memory, const WorkspaceLimits& limits) {
  MOED_ASSIGN_OR_RETURN(auto impl, Impl::Create(memory, limits));
  return std::unique_ptr<SamplingKernels>(new SamplingKernels(std::move(impl)));
}

int64_t SamplingKernels::ScratchBytes(const WorkspaceLimits& limits) {
  const Sizes sizes = SizesOf(limits);
  return sizes.rows == 0 ? 0 : RowStaging::DeviceBytes(sizes.rows) + sizes.key_bytes;
}

void SamplingKernels::Sample(CudaStream& stream, const SampleArgs& args) {
  impl_->Sample(stream, args);
}

void SamplingKernels::TokenLogprobs(CudaStream& stream, const TokenLogprobsArgs& args) {
  if (args.logits.empty()) return;
  LogSoftmaxParams params;
  params.logits = args.logits.data<float>();
  params.token = args.targets.data<int32_t>();
  params.num_rows = args.logits.dim(0);
  params.vocab = args.logits.dim(1);
  params.num_top = kMaxLogprobs;
  params.logprobs = args.logprobs.data<float>();
  params.top_ids = args.top_ids.data<int32_t>();
  params.top_logprobs = args.top_logprobs.data<float>();
  stream.Note(LaunchLogSoftmax(stream.context(), params), "TokenLogprobs");
}

}  // namespace moed::cuda
