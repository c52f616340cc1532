#include "runtime/model/token_routing.h"

#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"
#include "kernels/core/checked_math.h"
#include "kernels/core/status.h"

namespace moed {
namespace {

void CountOne(uint32_t& count) {
  if (count != std::numeric_limits<uint32_t>::max()) ++count;
}

int64_t RowWidth(const TokenRoutingShape& shape) {
  return static_cast<int64_t>(shape.num_layers) * shape.num_experts;
}

}  // namespace

absl::StatusOr<int64_t> TokenRouting::Bytes(const TokenRoutingShape& shape, int64_t max_bytes) {
  if (shape.num_layers < 1 || shape.num_experts < 1 || shape.vocab < 1) {
    return absl::InvalidArgumentError(absl::StrCat("no counts per token id for ", shape.num_layers,
                                                   " layers, ", shape.num_experts, " experts and ",
                                                   shape.vocab, " token ids"));
  }
  const std::optional<int64_t> entries = CheckedMul(RowWidth(shape), shape.vocab);
  const std::optional<int64_t> bytes =
      entries.has_value() ? CheckedMul(*entries, 2 * sizeof(uint32_t)) : std::nullopt;
  if (!bytes.has_value() || *bytes > max_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "counting experts by token id takes 8 bytes * ", shape.vocab, " token ids * ",
        shape.num_layers, " layers * ", shape.num_experts, " experts",
        bytes.has_value() ? absl::StrCat(" = ", *bytes) : "", "; the limit is ", max_bytes));
  }
  return *bytes;
}

absl::StatusOr<TokenRouting> TokenRouting::Create(const TokenRoutingShape& shape,
                                                  int64_t max_bytes) {
  MOED_RETURN_IF_ERROR(Bytes(shape, max_bytes).status());
  return TokenRouting(shape);
}

TokenRouting::TokenRouting(const TokenRoutingShape& shape)
    : shape_(shape),
      first_choices_(static_cast<size_t>(RowWidth(shape) * shape.vocab), 0),
      all_choices_(first_choices_.size(), 0) {}

absl::Status TokenRouting::Check(absl::Span<const int32_t> token_ids,
                                 absl::Span<const int16_t> expert_ids) const {
  const size_t num_rows = token_ids.size() * static_cast<size_t>(shape_.num_layers);
  if (num_rows == 0 ? !expert_ids.empty()
                    : expert_ids.empty() || expert_ids.size() % num_rows != 0) {
    return absl::InternalError(absl::StrCat("traced ", expert_ids.size(), " choices of ",
                                            token_ids.size(), " rows in ", shape_.num_layers,
                                            " layers"));
  }
  for (const int32_t token_id : token_ids) {
    if (token_id >= 0 && token_id < shape_.vocab) continue;
    return absl::InternalError(
        absl::StrCat("traced token id ", token_id, " of a vocabulary of ", shape_.vocab));
  }
  for (const int16_t expert : expert_ids) {
    if (expert >= -1 && expert < shape_.num_experts) continue;
    return absl::InternalError(absl::StrCat("traced expert ", expert, " of ", shape_.num_experts));
  }
  return absl::OkStatus();
}

void TokenRouting::Add(absl::Span<const int32_t> token_ids, absl::Span<const int16_t> expert_ids) {
  if (token_ids.empty()) return;
  const size_t num_rows = token_ids.size();
  const size_t num_choices = expert_ids.size() / (num_rows * shape_.num_layers);
  for (size_t row = 0; row < num_rows; ++row) {
    const size_t stretch = static_cast<size_t>(token_ids[row]) * RowWidth(shape_);
    for (int layer = 0; layer < shape_.num_layers; ++layer) {
      const size_t base = stretch + static_cast<size_t>(layer) * shape_.num_experts;
      const absl::Span<const int16_t> chosen =
          expert_ids.subspan((layer * num_rows + row) * num_choices, num_choices);
      if (chosen[0] >= 0) CountOne(first_choices_[base + chosen[0]]);
      for (const int16_t expert : chosen) {
        if (expert >= 0) CountOne(all_choices_[base + expert]);
      }
    }
  }
  num_rows_ += static_cast<int64_t>(num_rows);
}

absl::Span<const uint32_t> TokenRouting::FirstChoices(int32_t token_id) const {
  return absl::MakeConstSpan(first_choices_).subspan(token_id * RowWidth(shape_), RowWidth(shape_));
}

absl::Span<const uint32_t> TokenRouting::AllChoices(int32_t token_id) const {
  return absl::MakeConstSpan(all_choices_).subspan(token_id * RowWidth(shape_), RowWidth(shape_));
}

}  // namespace moed
