// moed --print-config: the settings as a file that --config reads.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "server/app/option_table.h"

namespace moed {

// TOML: a key a line with where its value came from, in groups; what is not set is a comment. Holds
// no secrets: options name the files that do. `config_path` is empty where there is no file.
std::string PrintConfig(const OptionTable& table, absl::string_view config_path);

}  // namespace moed
