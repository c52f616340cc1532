// The files of page/, which the build puts into the program.
#pragma once

#include "absl/strings/string_view.h"

namespace moed {

extern const absl::string_view kPageHtml;
extern const absl::string_view kPageScript;
extern const absl::string_view kPageStyle;

}  // namespace moed
