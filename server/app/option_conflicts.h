// Options that make no sense together.
#pragma once

#include <string>
#include <vector>

#include "server/app/daemon_options.h"
#include "server/app/option_table.h"

namespace moed {

struct OptionConflict {
  std::string option;  // without dashes: the one that is in the way
  std::string text;    // names every option in it
};

// All of them. `table` tells what was given, `options` what it came to.
std::vector<OptionConflict> FindConflicts(const OptionTable& table, const DaemonOptions& options);

}  // namespace moed
