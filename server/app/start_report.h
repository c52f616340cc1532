// What the daemon says of itself once the model is loaded.
#pragma once

#include <string>
#include <vector>

#include "runtime/engine/thread_worker_group.h"
#include "server/app/daemon_options.h"
#include "server/state/served_model.h"

namespace moed {

// Lines: model, backend, memory of each rank by kind, KV cache, exchange. `group` has started.
std::vector<std::string> StartReport(const DaemonOptions& options, const ServedModel& model,
                                     const WorkerGroupInfo& info, const ThreadWorkerGroup& group);

// What an operator must know of options that give a promise up.
std::vector<std::string> StartWarnings(const DaemonOptions& options);

// "1.50 GiB", "12 bytes".
std::string FormatBytes(int64_t bytes);

}  // namespace moed
