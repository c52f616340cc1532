// What the operating system lets this process have.
#pragma once

#include <cstdint>
#include <optional>

namespace moed {

// Memory that is free or can be reclaimed, within the control group's limit; nullopt where the
// system does not say.
std::optional<int64_t> AvailableMemoryBytes();

// Processors that this process may run on, within the control group's quota, at least 1.
int AvailableProcessors();

}  // namespace moed
