// How this folder's errors name things: "file: tensor 'x': expected A, found B".
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace moed {

// `text` with everything but printable ASCII escaped, cut to `max_chars` with "..." at the end.
std::string PrintableText(absl::string_view text, size_t max_chars);
// A name from a file, printable, in quotes.
std::string QuoteName(absl::string_view name);
// "[32000, 4096]"
std::string ShapeText(absl::Span<const int64_t> shape);

// INVALID_ARGUMENT "<file>: tensor '<tensor>': expected <expected>, found <found>".
absl::Status TensorError(absl::string_view file, absl::string_view tensor,
                         absl::string_view expected, absl::string_view found);
// INVALID_ARGUMENT "<file>: field '<field>': expected <expected>, found <found>".
absl::Status FieldError(absl::string_view file, absl::string_view field, absl::string_view expected,
                        absl::string_view found);

// Collects problems so that a person sees them together, not one at a time.
class ProblemList {
 public:
  void Add(const absl::Status& problem);
  bool empty() const { return num_problems_ == 0; }
  // OK when empty; else the first problem's code, with the text of the first ten and the number of
  // the rest.
  absl::Status ToStatus() const;

 private:
  int64_t num_problems_ = 0;
  absl::StatusCode code_ = absl::StatusCode::kOk;
  std::vector<std::string> first_;
};

}  // namespace moed
