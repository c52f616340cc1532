#include "runtime/checkpoint/error_text.h"

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace moed {
namespace {

constexpr size_t kMaxNameChars = 160;
constexpr size_t kMaxProblemsShown = 10;

}  // namespace

std::string PrintableText(absl::string_view text, size_t max_chars) {
  const bool cut = text.size() > max_chars;
  std::string escaped;
  for (const char c : text.substr(0, max_chars)) {
    if (c >= 0x20 && c < 0x7f) {
      escaped.push_back(c);
    } else {
      absl::StrAppend(&escaped, absl::CHexEscape(absl::string_view(&c, 1)));
    }
  }
  return cut ? absl::StrCat(escaped, "...") : escaped;
}

std::string QuoteName(absl::string_view name) {
  return absl::StrCat("'", PrintableText(name, kMaxNameChars), "'");
}

std::string ShapeText(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

absl::Status TensorError(absl::string_view file, absl::string_view tensor,
                         absl::string_view expected, absl::string_view found) {
  return absl::InvalidArgumentError(absl::StrCat(file, ": tensor ", QuoteName(tensor),
                                                 ": expected ", expected, ", found ", found));
}

absl::Status FieldError(absl::string_view file, absl::string_view field, absl::string_view expected,
                        absl::string_view found) {
  return absl::InvalidArgumentError(
      absl::StrCat(file, ": field ", QuoteName(field), ": expected ", expected, ", found ", found));
}

void ProblemList::Add(const absl::Status& problem) {
  if (problem.ok()) return;
  if (num_problems_++ == 0) code_ = problem.code();
  if (first_.size() < kMaxProblemsShown) first_.emplace_back(problem.message());
}

absl::Status ProblemList::ToStatus() const {
  if (empty()) return absl::OkStatus();
  std::string text = absl::StrJoin(first_, "; ");
  const int64_t num_hidden = num_problems_ - static_cast<int64_t>(first_.size());
  if (num_hidden > 0) absl::StrAppend(&text, "; and ", num_hidden, " more");
  return absl::Status(code_, text);
}

}  // namespace moed
