#include "server/app/print_config.h"

#include "absl/strings/str_cat.h"

namespace moed {
namespace {

std::string Origin(const Option& option) {
  switch (option.source) {
    case ValueSource::kFlag:
      return absl::StrCat("flag ", option.flag());
    case ValueSource::kEnvironment:
      return absl::StrCat("environment ", option.variable());
    case ValueSource::kFile:
      return "file";
    case ValueSource::kDefault:
      break;
  }
  return "default";
}

}  // namespace

std::string PrintConfig(const OptionTable& table, absl::string_view config_path) {
  std::string text = "# The settings of moed, and where each came from.\n";
  if (!config_path.empty()) {
    absl::StrAppend(&text, "# file: ", TomlString(config_path), "\n");
  }
  absl::string_view group;
  for (const Option& option : table.options()) {
    if (group != option.group) {
      group = option.group;
      absl::StrAppend(&text, "\n# ", group, "\n");
    }
    const std::string value = option.toml();
    if (value.empty()) {
      absl::StrAppend(&text, "# ", option.name, ": not set\n");
    } else {
      absl::StrAppend(&text, option.name, " = ", value, "  # ", Origin(option), "\n");
    }
  }
  return text;
}

}  // namespace moed
