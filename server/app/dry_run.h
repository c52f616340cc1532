// moed --dry-run: what loading would take, from config and index alone.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "server/app/daemon_options.h"

namespace moed {

// The plan and what is odd about the model, as text for a person. Reads no weights; the shards need
// not be there.
absl::StatusOr<std::string> DryRun(const DaemonOptions& options);

}  // namespace moed
