#include "kernels/cuda/row_staging.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <utility>

#include "kernels/core/check.h"
#include "kernels/core/status.h"

namespace moed::cuda {
namespace {

// 1 MiB: some 128,000 tokens with penalties, all that most steps have.
constexpr int64_t kListWords = 256 * 1024;
constexpr char kOperation[] = "Sample";

bool HasPenalty(const SamplingRow& row) {
  return row.repetition_penalty != 1 || row.frequency_penalty != 0 || row.presence_penalty != 0;
}

SampledRow Plain(const SamplingRow& row) {
  MOED_CHECK(std::isfinite(row.repetition_penalty) && std::isfinite(row.frequency_penalty) &&
                 std::isfinite(row.presence_penalty),
             "Sample: a penalty is not finite");
  SampledRow plain;
  plain.seed = row.seed;
  plain.position = row.position;
  plain.choice_index = row.choice_index;
  plain.slot = row.slot;
  plain.temperature = row.temperature;
  plain.top_k = row.top_k;
  plain.top_p = row.top_p;
  plain.min_p = row.min_p;
  plain.typical_p = row.typical_p;
  plain.presence_penalty = row.presence_penalty;
  plain.frequency_penalty = row.frequency_penalty;
  plain.repetition_penalty = row.repetition_penalty;
  plain.is_restricted = row.allowed_token_ids.empty() ? 0 : 1;
  return plain;
}

uint32_t CheckedId(int32_t id, int64_t vocab, const char* message) {
  MOED_CHECK(id >= 0 && id < vocab, message);
  return static_cast<uint32_t>(id);
}

}  // namespace

bool HasLists(const SamplingRow& row) {
  return !row.logit_bias.empty() || !row.allowed_token_ids.empty() ||
         !row.suppressed_token_ids.empty() || (HasPenalty(row) && !row.seen.empty());
}

// The half that is being filled, and the one after it where it is full.
class RowStaging::Filling {
 public:
  Filling(RowStaging& staging, CudaStream& stream, int64_t vocab,
          absl::FunctionRef<void(int64_t)> apply)
      : staging_(staging), stream_(stream), vocab_(vocab), apply_(apply) {
    Open();
  }

  void AddRows(absl::Span<const SamplingRow> rows) {
    auto* plain = reinterpret_cast<SampledRow*>(base_);
    int32_t keys_slot = 0;
    for (size_t r = 0; r < rows.size(); ++r) {
      plain[r] = Plain(rows[r]);
      if (HasLists(rows[r])) plain[r].keys_slot = keys_slot++;
    }
    rows_bytes_ = static_cast<int64_t>(rows.size() * sizeof(SampledRow));
  }

  void AddLists(int32_t r, const SamplingRow& row) {
    row_ = r;
    is_first_ = true;
    StartPiece();
    Add(kAllowedList, row.allowed_token_ids, [&](int32_t id, uint32_t* words) {
      words[0] = CheckedId(id, vocab_, "Sample: an allowed token id is out of range");
    });
    Add(kBiasList, row.logit_bias, [&](const TokenBias& token, uint32_t* words) {
      words[0] = CheckedId(token.token_id, vocab_, "Sample: a biased token id is out of range");
      MOED_CHECK(std::isfinite(token.bias), "Sample: a logit bias is not finite");
      words[1] = std::bit_cast<uint32_t>(token.bias);
    });
    if (HasPenalty(row)) {
      Add(kSeenList, row.seen, [&](const SeenToken& token, uint32_t* words) {
        words[0] = CheckedId(token.token_id, vocab_, "Sample: a seen token id is out of range");
        MOED_CHECK(token.num_drawn >= 0, "Sample: a token was drawn less than 0 times");
        words[1] = static_cast<uint32_t>(token.num_drawn) | (token.in_prompt ? kInPrompt : 0);
      });
    }
    Add(kSuppressedList, row.suppressed_token_ids, [&](int32_t id, uint32_t* words) {
      words[0] = CheckedId(id, vocab_, "Sample: a suppressed token id is out of range");
    });
  }

  // Copies what is there and has it applied.
  void Close() {
    Half& half = staging_.halves_[staging_.next_];
    const int64_t begin = rows_bytes_ > 0 ? 0 : staging_.pieces_offset();
    const int64_t end = num_pieces_ == 0
                            ? rows_bytes_
                            : staging_.words_offset() + num_words_ * int64_t{sizeof(uint32_t)};
    const CudaApi& api = staging_.api_;
    stream_.Note(api.copy(static_cast<std::byte*>(staging_.device_.data()) + begin, base_ + begin,
                          static_cast<size_t>(end - begin), stream_.handle()),
                 kOperation);
    stream_.Note(api.record_event(half.copied, stream_.handle()), kOperation);
    half.in_flight = true;
    staging_.next_ = 1 - staging_.next_;
    rows_bytes_ = 0;
    if (num_pieces_ > 0) apply_(num_pieces_);
  }

 private:
  void Open() {
    Half& half = staging_.halves_[staging_.next_];
    if (half.in_flight) {
      stream_.Note(staging_.api_.synchronize_event(half.copied), kOperation);
      half.in_flight = false;
    }
    base_ = static_cast<std::byte*>(half.memory.data());
    words_ = reinterpret_cast<uint32_t*>(base_ + staging_.words_offset());
    num_pieces_ = 0;
    num_words_ = 0;
  }

  void StartPiece() {
    piece_ = reinterpret_cast<TokenListPiece*>(base_ + staging_.pieces_offset()) + num_pieces_++;
    *piece_ = TokenListPiece();
    piece_->row = row_;
    piece_->is_first = is_first_ ? 1 : 0;
    is_first_ = false;
  }

  template <typename Item, typename Write>
  void Add(TokenListKind kind, absl::Span<const Item> items, Write write) {
    const int64_t item_words = kListItemWords[kind];
    while (!items.empty()) {
      const auto room = static_cast<size_t>((kListWords - num_words_) / item_words);
      const size_t count = std::min(room, items.size());
      piece_->first_word[kind] = static_cast<uint32_t>(num_words_);
      piece_->num_items[kind] = static_cast<int32_t>(count);
      for (size_t i = 0; i < count; ++i) {
        write(items[i], words_ + num_words_);
        num_words_ += item_words;
      }
      items.remove_prefix(count);
      if (items.empty()) return;
      Close();
      Open();
      StartPiece();
    }
  }

  RowStaging& staging_;
  CudaStream& stream_;
  const int64_t vocab_;
  const absl::FunctionRef<void(int64_t)> apply_;
  std::byte* base_ = nullptr;  // of the half
  uint32_t* words_ = nullptr;
  TokenListPiece* piece_ = nullptr;
  int64_t rows_bytes_ = 0;
  int64_t num_pieces_ = 0;
  int64_t num_words_ = 0;
  int32_t row_ = 0;
  bool is_first_ = true;
};

RowStaging::RowStaging(const CudaApi& api, int64_t max_rows) : api_(api), max_rows_(max_rows) {}

absl::StatusOr<std::unique_ptr<RowStaging>> RowStaging::Create(CudaMemory& memory,
                                                               int64_t max_rows) {
  std::unique_ptr<RowStaging> staging(new RowStaging(memory.api(), max_rows));
  MOED_RETURN_IF_ERROR(staging->Allocate(memory));
  return staging;
}

absl::Status RowStaging::Allocate(CudaMemory& memory) {
  const int64_t bytes = DeviceBytes(max_rows_);
  MOED_ASSIGN_OR_RETURN(device_, memory.Allocate(MemoryKind::kWorkspace, bytes));
  for (Half& half : halves_) {
    MOED_ASSIGN_OR_RETURN(half.memory, memory.AllocatePinned(bytes));
    MOED_RETURN_IF_ERROR(
        CudaStatus(api_, api_.create_event(&half.copied, false), "creating an event"));
  }
  return absl::OkStatus();
}

RowStaging::~RowStaging() {
  for (const Half& half : halves_) {
    if (half.in_flight) api_.synchronize_event(half.copied);
    if (half.copied != nullptr) api_.destroy_event(half.copied);
  }
}

int64_t RowStaging::DeviceBytes(int64_t max_rows) {
  return WordsOffset(max_rows) + kListWords * int64_t{sizeof(uint32_t)};
}

int64_t RowStaging::PiecesOffset(int64_t max_rows) {
  return max_rows * static_cast<int64_t>(sizeof(SampledRow));
}

int64_t RowStaging::WordsOffset(int64_t max_rows) {
  return PiecesOffset(max_rows) + max_rows * static_cast<int64_t>(sizeof(TokenListPiece));
}

const SampledRow* RowStaging::rows() const {
  return static_cast<const SampledRow*>(device_.data());
}

const TokenListPiece* RowStaging::pieces() const {
  return reinterpret_cast<const TokenListPiece*>(static_cast<const std::byte*>(device_.data()) +
                                                 pieces_offset());
}

const uint32_t* RowStaging::words() const {
  return reinterpret_cast<const uint32_t*>(static_cast<const std::byte*>(device_.data()) +
                                           words_offset());
}

void RowStaging::Send(CudaStream& stream, absl::Span<const SamplingRow> rows, int64_t vocab,
                      absl::FunctionRef<void(int64_t num_pieces)> apply) {
  MOED_CHECK(static_cast<int64_t>(rows.size()) <= max_rows_, "Sample: more rows than fit at once");
  if (rows.empty()) return;
  Filling filling(*this, stream, vocab, apply);
  filling.AddRows(rows);
  for (size_t r = 0; r < rows.size(); ++r) {
    if (HasLists(rows[r])) filling.AddLists(static_cast<int32_t>(r), rows[r]);
  }
  filling.Close();
}

}  // namespace moed::cuda
