// From a directory to an engine that answers.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/engine/worker_group.h"
#include "server/app/daemon_options.h"
#include "server/state/serving_state.h"

namespace moed {

struct ModelStartHooks {
  // Returning false cancels the start, which then ends CANCELLED.
  RankProgressCallback on_progress;
  // Lines of the start report, and warnings about the checkpoint.
  std::function<void(absl::string_view)> on_info;
  std::function<void(absl::string_view)> on_warning;
  // The ranks are broken for good; on the engine thread, see EngineOptions::on_fault.
  std::function<void(const absl::Status&)> on_fault;
};

// Opens and checks the checkpoint, starts the ranks and the engine; blocks. The status tells how
// the process should end (ExitCodeOf) and names file, tensor or option.
absl::StatusOr<Serving> StartModel(const DaemonOptions& options, const ModelStartHooks& hooks);

}  // namespace moed
