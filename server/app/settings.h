// Where an option's value comes from: flag, environment, file, default.
#pragma once

#include <string>
#include <vector>

#include "server/app/option_table.h"
#include "server/app/toml_file.h"

namespace moed {

// Something that is wrong with a setting.
struct SettingProblem {
  ValueSource source = ValueSource::kFlag;  // where the operator has to look
  std::string text;                         // names flag, variable, or file, line and key
};

// An option's values on the command line; empty: not given.
using FlagValues = std::vector<std::string>;

// Sets every option from the first of its flag, its environment variable and its key in the file;
// returns all that is wrong. `flags[i]` are those of table.options()[i].
std::vector<SettingProblem> ApplySettings(const std::vector<FlagValues>& flags,
                                          const std::string& config_path,
                                          const std::vector<TomlEntry>& config, OptionTable& table);

// The environment's; empty where it has none.
std::string EnvironmentValue(const std::string& variable);

}  // namespace moed
