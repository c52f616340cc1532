// What may stand in a label.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace moed {

// Valid UTF-8 of at most 256 bytes: what is no code point becomes U+FFFD, and a longer text is cut
// off. (Quotes and line ends are escaped by whoever writes the page.) Names of models come from
// paths, which may hold any bytes.
std::string SafeLabel(absl::string_view text);

// Decimal, with as many digits as the largest of `count` indices needs, so that labels sort as
// numbers do: "07" of 32.
std::string PaddedIndex(int index, int count);

// Lower case, for what comes from names in upper case: "QUEUE_FULL".
std::string ReasonLabel(absl::string_view reason);

}  // namespace moed
