// What somebody may have meant who wrote a name that there is none of.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace moed {

// The one of `names` that `written` differs from least, by letters changed, added, left out or
// swapped, where "_" and "-" are the same and case does not matter. Empty where none is near.
std::string NearestName(absl::string_view written, const std::vector<std::string>& names);

}  // namespace moed
