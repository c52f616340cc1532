// moed --check-config: everything that can be told without reading weights.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "server/app/daemon_options.h"

namespace moed {

// All that is wrong: the model's configuration and tokenizer, keys, certificates, addresses, the
// port file's directory. Nothing is listened on or written.
std::vector<absl::Status> CheckConfig(const DaemonOptions& options);

}  // namespace moed
