#include "runtime/tokenizer/bpe.h"

#include <queue>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "kernels/core/check.h"
#include "runtime/tokenizer/utf8.h"

namespace moed {
namespace {

constexpr int32_t kNone = -1;

// A stretch of the text that is one symbol now; empty once merged into its left neighbour.
struct Symbol {
  absl::string_view text;
  int32_t previous = kNone;
  int32_t next = kNone;
  bool is_frozen = false;  // a user-defined piece
};

struct Merge {
  float score;
  int32_t left;
  int32_t right;
  uint32_t num_bytes;  // of the result: tells a merge whose symbols have changed since
};

struct IsLater {
  bool operator()(const Merge& a, const Merge& b) const {
    return a.score < b.score || (a.score == b.score && a.left > b.left);
  }
};

class Merger {
 public:
  Merger(const Vocabulary& vocabulary, const PrefixMatcher& user_defined,
         absl::string_view normalized)
      : vocabulary_(vocabulary) {
    Split(user_defined, normalized);
  }

  void Run() {
    for (size_t i = 1; i < symbols_.size(); ++i) {
      QueueMerge(static_cast<int32_t>(i - 1), static_cast<int32_t>(i));
    }
    while (!queue_.empty()) {
      const Merge merge = queue_.top();
      queue_.pop();
      if (IsCurrent(merge)) Apply(merge);
    }
  }

  std::vector<BpeToken> Result() const {
    std::vector<BpeToken> tokens;
    for (int32_t i = 0; i != kNone; i = symbols_[i].next) Emit(symbols_[i].text, &tokens);
    return tokens;
  }

  const BpeWork& work() const { return work_; }

 private:
  void Split(const PrefixMatcher& user_defined, absl::string_view normalized) {
    symbols_.reserve(normalized.size());
    while (!normalized.empty()) {
      const size_t matched = user_defined.Match(normalized);
      const size_t length = matched > 0 ? matched : Utf8CodePointLength(normalized);
      MOED_CHECK(length > 0, "the normalised text is not well-formed UTF-8");
      const int32_t index = static_cast<int32_t>(symbols_.size());
      symbols_.push_back({normalized.substr(0, length), index - 1, index + 1, matched > 0});
      normalized.remove_prefix(length);
    }
    symbols_.back().next = kNone;
  }

  void QueueMerge(int32_t left, int32_t right) {
    if (left == kNone || right == kNone) return;
    const Symbol& a = symbols_[left];
    const Symbol& b = symbols_[right];
    if (a.is_frozen || b.is_frozen) return;
    const absl::string_view merged(a.text.data(), a.text.size() + b.text.size());
    ++work_.num_lookups;
    const int32_t id = vocabulary_.FindText(merged);
    if (id == Vocabulary::kNoToken) return;
    ++work_.num_pushes;
    queue_.push({vocabulary_.score(id), left, right, static_cast<uint32_t>(merged.size())});
    if (vocabulary_.type(id) == PieceType::kUnused) unmerge_[merged] = {a.text, b.text};
  }

  bool IsCurrent(const Merge& merge) const {
    const Symbol& a = symbols_[merge.left];
    const Symbol& b = symbols_[merge.right];
    return !a.text.empty() && !b.text.empty() && a.text.size() + b.text.size() == merge.num_bytes;
  }

  void Apply(const Merge& merge) {
    Symbol& a = symbols_[merge.left];
    Symbol& b = symbols_[merge.right];
    a.text = absl::string_view(a.text.data(), merge.num_bytes);
    a.next = b.next;
    if (b.next != kNone) symbols_[b.next].previous = merge.left;
    b.text = absl::string_view();
    QueueMerge(a.previous, merge.left);
    QueueMerge(merge.left, a.next);
  }

  // Writes a symbol, an unused piece as what it was merged from. As sentencepiece does it, all
  // occurrences of an unused piece are split as the last queued one was.
  void Emit(absl::string_view text, std::vector<BpeToken>* tokens) const {
    const int32_t id = vocabulary_.FindText(text);
    if (id == Vocabulary::kNoToken || vocabulary_.type(id) != PieceType::kUnused) {
      tokens->push_back({text, id});
      return;
    }
    const auto parts = unmerge_.find(text);
    if (parts == unmerge_.end()) {
      tokens->push_back({text, id});
      return;
    }
    // No deeper than a piece has characters, which its greatest length bounds.
    Emit(parts->second.first, tokens);
    Emit(parts->second.second, tokens);
  }

  const Vocabulary& vocabulary_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Merge, std::vector<Merge>, IsLater> queue_;
  absl::flat_hash_map<absl::string_view, std::pair<absl::string_view, absl::string_view>> unmerge_;
  BpeWork work_;
};

}  // namespace

std::vector<BpeToken> BpeEncoder::Encode(absl::string_view normalized, BpeWork* work) const {
  if (normalized.empty()) return {};
  Merger merger(*vocabulary_, *user_defined_, normalized);
  merger.Run();
  if (work != nullptr) *work = merger.work();
  return merger.Result();
}

}  // namespace moed
