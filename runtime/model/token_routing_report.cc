#include "runtime/model/token_routing_report.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "kernels/core/check.h"

namespace moed {
namespace {

// Whether `a` stands before `b` in an expert's list.
bool IsAhead(const ExpertTopToken& a, const ExpertTopToken& b) {
  if (a.num_rows != b.num_rows) return a.num_rows > b.num_rows;
  return a.token_id < b.token_id;
}

}  // namespace

TokenRoutingReader::TokenRoutingReader(const TokenRoutingShape& shape, int top_n)
    : shape_(shape), top_n_(static_cast<size_t>(top_n)), random_favourite_(shape.num_experts) {
  MOED_CHECK(top_n >= 0, "a negative number of token ids");
  report_.num_layers = shape.num_layers;
  report_.num_experts = shape.num_experts;
  report_.consistency.resize(shape.num_layers);
  report_.top_tokens.resize(static_cast<size_t>(shape.num_layers) * shape.num_experts);
}

bool TokenRoutingReader::ReadSome(const TokenRouting& routing, int32_t num_token_ids) {
  const int32_t end = next_token_id_ + std::min(num_token_ids, shape_.vocab - next_token_id_);
  for (; next_token_id_ < end; ++next_token_id_) {
    const absl::Span<const uint32_t> first = routing.FirstChoices(next_token_id_);
    const absl::Span<const uint32_t> all = routing.AllChoices(next_token_id_);
    for (int layer = 0; layer < shape_.num_layers; ++layer) {
      const size_t begin = static_cast<size_t>(layer) * shape_.num_experts;
      ReadLayer(layer, first.subspan(begin, shape_.num_experts),
                all.subspan(begin, shape_.num_experts), next_token_id_);
    }
  }
  report_.num_rows = routing.num_rows();
  return next_token_id_ < shape_.vocab;
}

void TokenRoutingReader::ReadLayer(int layer, absl::Span<const uint32_t> first,
                                   absl::Span<const uint32_t> all, int32_t token_id) {
  int64_t num_rows = 0;
  int64_t most = 0;
  double same_pairs = 0;  // ordered pairs of different rows with one expert
  for (const uint32_t count : first) {
    num_rows += count;
    most = std::max<int64_t>(most, count);
    same_pairs += static_cast<double>(count) * (static_cast<double>(count) - 1);
  }
  if (num_rows == 0) return;
  if (num_rows >= 2) {
    const double rows = static_cast<double>(num_rows);
    RoutingConsistency& consistency = report_.consistency[layer];
    consistency.num_rows += num_rows;
    ++consistency.num_token_ids;
    consistency.favourite += static_cast<double>(most);
    consistency.random_favourite += rows * random_favourite_.Share(num_rows);
    consistency.agreement += same_pairs / (rows - 1);
  }
  for (int expert = 0; expert < shape_.num_experts; ++expert) {
    if (all[expert] == 0) continue;
    Offer({token_id, all[expert], static_cast<double>(all[expert]) / static_cast<double>(num_rows)},
          &report_.top_tokens[static_cast<size_t>(layer) * shape_.num_experts + expert]);
  }
}

// A heap with the last of the list on top, which the next better one replaces.
void TokenRoutingReader::Offer(const ExpertTopToken& token,
                               std::vector<ExpertTopToken>* top) const {
  if (top_n_ == 0) return;
  if (top->size() == top_n_) {
    if (!IsAhead(token, top->front())) return;
    std::pop_heap(top->begin(), top->end(), IsAhead);
    top->pop_back();
  }
  top->push_back(token);
  std::push_heap(top->begin(), top->end(), IsAhead);
}

TokenRoutingReport TokenRoutingReader::Finish() {
  MOED_CHECK(next_token_id_ == shape_.vocab, "not all token ids have been read");
  for (RoutingConsistency& consistency : report_.consistency) {
    if (consistency.num_rows == 0) continue;
    const double rows = static_cast<double>(consistency.num_rows);
    consistency.favourite /= rows;
    consistency.random_favourite /= rows;
    consistency.agreement /= rows;
  }
  for (std::vector<ExpertTopToken>& top : report_.top_tokens) {
    std::sort_heap(top.begin(), top.end(), IsAhead);
  }
  return std::move(report_);
}

}  // namespace moed
