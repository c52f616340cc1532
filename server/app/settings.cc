#include "server/app/settings.h"

#include <algorithm>
#include <cstdlib>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/app/nearest_name.h"

namespace moed {
namespace {

std::string Named(const std::string& name, const absl::Status& status) {
  const absl::string_view text = status.message();
  return absl::StrCat(name, ": ", text);
}

std::string Place(const std::string& path, const TomlEntry& entry) {
  return absl::StrCat(path, ":", entry.line, ": ", entry.key);
}

// What a key's value has to be; OK where it is.
absl::Status CheckKind(const Option& option, const TomlEntry& entry) {
  const auto is = [&](std::initializer_list<TomlKind> kinds) {
    return std::find(kinds.begin(), kinds.end(), entry.kind) != kinds.end();
  };
  const auto expected = [&](bool good, const char* what) {
    return good ? absl::OkStatus()
                : absl::InvalidArgumentError(
                      absl::StrCat("must be ", what, ", got ", TomlKindName(entry.kind)));
  };
  switch (option.kind) {
    case ValueKind::kText:
      return expected(is({TomlKind::kText}), "a text in quotes");
    case ValueKind::kInteger:
      return expected(is({TomlKind::kInteger}), "a whole number");
    case ValueKind::kNumber:
      return expected(is({TomlKind::kInteger, TomlKind::kNumber}), "a number");
    case ValueKind::kSize:
      return expected(is({TomlKind::kText, TomlKind::kInteger}),
                      "a size like \"4GiB\" or a number of bytes");
    case ValueKind::kBoolean:
      return expected(is({TomlKind::kBoolean}), "true or false");
    case ValueKind::kList:
      return expected(is({TomlKind::kText, TomlKind::kList}), "a text or a list of texts");
  }
  return absl::OkStatus();
}

std::string UnknownKey(const std::string& path, const TomlEntry& entry, const OptionTable& table) {
  std::vector<std::string> names;
  for (const Option& option : table.options()) names.push_back(option.name);
  const std::string nearest = NearestName(entry.key, names);
  return absl::StrCat(Place(path, entry), ": there is no such setting",
                      nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?"));
}

FlagValues EnvironmentValues(const Option& option, const std::string& value) {
  if (option.kind != ValueKind::kList) return {value};
  return absl::StrSplit(value, absl::ByAnyChar(", "), absl::SkipEmpty());
}

// What is wrong; empty: nothing is.
std::string Apply(const FlagValues& flag, const TomlEntry* entry, const std::string& path,
                  Option& option) {
  std::string name;
  FlagValues values = flag;
  if (!flag.empty()) {
    option.source = ValueSource::kFlag;
    name = option.flag();
  } else if (const std::string value = EnvironmentValue(option.variable()); !value.empty()) {
    option.source = ValueSource::kEnvironment;
    name = option.variable();
    values = EnvironmentValues(option, value);
  } else if (entry != nullptr) {
    option.source = ValueSource::kFile;
    name = Place(path, *entry);
    const absl::Status kind = CheckKind(option, *entry);
    if (!kind.ok()) return Named(name, kind);
    values = entry->values;
  } else {
    return "";
  }
  const absl::Status status = option.set(values);
  return status.ok() ? "" : Named(name, status);
}

}  // namespace

std::string EnvironmentValue(const std::string& variable) {
  const char* value = std::getenv(variable.c_str());
  return value == nullptr ? "" : value;
}

std::vector<SettingProblem> ApplySettings(const std::vector<FlagValues>& flags,
                                          const std::string& config_path,
                                          const std::vector<TomlEntry>& config,
                                          OptionTable& table) {
  std::vector<SettingProblem> problems;
  for (const TomlEntry& entry : config) {
    if (table.Find(entry.key) != nullptr) continue;
    problems.push_back({ValueSource::kFile, UnknownKey(config_path, entry, table)});
  }
  for (size_t i = 0; i < table.options().size(); ++i) {
    Option& option = table.options()[i];
    const auto entry = std::find_if(config.begin(), config.end(), [&](const TomlEntry& candidate) {
      return candidate.key == option.name;
    });
    std::string wrong =
        Apply(flags[i], entry == config.end() ? nullptr : &*entry, config_path, option);
    if (!wrong.empty()) problems.push_back({option.source, std::move(wrong)});
  }
  return problems;
}

}  // namespace moed
