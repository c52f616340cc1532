// An event as a line: what comes after time and level.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/app/logging.h"

namespace moed {

// "message key=value other=\"with spaces\"": one line, whatever the texts hold.
std::string TextLine(absl::string_view message, absl::Span<const LogField> fields);

// "\"message\":\"...\",\"key\":1": members of an object, valid UTF-8.
std::string JsonMembers(absl::string_view message, absl::Span<const LogField> fields);

}  // namespace moed
