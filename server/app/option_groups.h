// The options of moed, by what they are about.
#pragma once

#include "server/app/daemon_options.h"
#include "server/app/option_table.h"

namespace moed {

// Model, ranks, memory and batches, scheduling, experts.
void AddEngineOptions(OptionTable& table, DaemonOptions& o);

// What a request may ask for, network, security, logs.
void AddServiceOptions(OptionTable& table, DaemonOptions& o);

}  // namespace moed
