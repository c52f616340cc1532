// The target of a request line.
#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace moed {

struct RequestTarget {
  std::string path;   // decoded; "*" of "OPTIONS *"
  std::string query;  // undecoded, without "?"
};

// "/path?query" or the same after "http://host"; "*". Nullopt for everything else: an authority
// alone, a fragment, "%" without two digits, a control character, encoded or not.
std::optional<RequestTarget> ParseRequestTarget(absl::string_view target);

}  // namespace moed
