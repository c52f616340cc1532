// How many files and connections the process may have open.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace moed {

// Opens /dev/null for those of 0, 1 and 2 that are closed, so that no socket or file gets the
// number and receives what is printed. Before anything else is opened.
void OccupyStandardDescriptors();

struct DescriptorLimit {
  int64_t before = 0;  // the soft limit as it was found
  int64_t after = 0;   // the soft limit now: the hard one
};

// Raises the limit to what the system allows this process. The error has errno's text; the limit
// then is as it was.
absl::StatusOr<DescriptorLimit> RaiseDescriptorLimit();

// What to tell the operator where connections would run out of descriptors before they reach
// `max_connections`; nullopt where they do not.
std::optional<std::string> DescriptorWarning(const DescriptorLimit& limit, int max_connections);

}  // namespace moed
