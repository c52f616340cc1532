#include "server/app/option_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace moed {
namespace {

std::string BooleanText(bool value) { return value ? "true" : "false"; }

absl::Status SetAddresses(const std::vector<std::string>& texts, absl::string_view none,
                          std::vector<std::string>* value) {
  if (!none.empty() && texts.size() == 1 && texts[0] == none) {
    value->clear();
    return absl::OkStatus();
  }
  for (const std::string& text : texts) MOED_RETURN_IF_ERROR(CheckAddress(text));
  if (texts.empty()) return absl::InvalidArgumentError("must have an address, got none");
  *value = texts;
  return absl::OkStatus();
}

}  // namespace

std::string Option::variable() const {
  return absl::StrCat("MOED_", absl::AsciiStrToUpper(absl::StrReplaceAll(name, {{"-", "_"}})));
}

Option& OptionTable::Add(absl::string_view name, ValueKind kind, absl::string_view type,
                         absl::string_view help) {
  Option& option = options_.emplace_back();
  option.name = std::string(name);
  option.group = group_;
  option.help = std::string(help);
  option.type = std::string(type);
  option.kind = kind;
  return option;
}

void OptionTable::Action(absl::string_view name, bool* value, absl::string_view help) {
  actions_.push_back({std::string(name), std::string(help), value});
}

void OptionTable::Boolean(absl::string_view name, bool* value, absl::string_view help) {
  Option& option = Add(name, ValueKind::kBoolean, "", help);
  option.set = [value](const std::vector<std::string>& texts) -> absl::Status {
    MOED_ASSIGN_OR_RETURN(*value, ParseBoolean(texts[0]));
    return absl::OkStatus();
  };
  option.toml = [value] { return BooleanText(*value); };
  option.default_toml = option.toml();
}

void OptionTable::NegatedBoolean(absl::string_view name, bool* value, absl::string_view help) {
  Option& option = Add(name, ValueKind::kBoolean, "", help);
  option.set = [value](const std::vector<std::string>& texts) -> absl::Status {
    MOED_ASSIGN_OR_RETURN(const bool negated, ParseBoolean(texts[0]));
    *value = !negated;
    return absl::OkStatus();
  };
  option.toml = [value] { return BooleanText(!*value); };
  option.default_toml = option.toml();
}

void OptionTable::Text(absl::string_view name, std::string* value, absl::string_view type,
                       absl::string_view help) {
  Option& option = Add(name, ValueKind::kText, type, help);
  option.default_text = *value;
  option.set = [value](const std::vector<std::string>& texts) {
    if (texts[0].empty()) return absl::InvalidArgumentError("must not be empty");
    if (texts[0].find('\0') != std::string::npos) {
      return absl::InvalidArgumentError("must not have a NUL character");
    }
    *value = texts[0];
    return absl::OkStatus();
  };
  option.toml = [value] { return value->empty() ? "" : TomlString(*value); };
  option.default_toml = option.toml();
}

void OptionTable::Choice(absl::string_view name, std::string* value, absl::string_view type,
                         std::vector<std::string> choices, absl::string_view help) {
  Option& option = Add(name, ValueKind::kText, type, help);
  option.default_text = *value;
  option.set = [value, choices = std::move(choices)](const std::vector<std::string>& texts) {
    if (std::find(choices.begin(), choices.end(), texts[0]) == choices.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("must be one of ", absl::StrJoin(choices, ", "), ", got ", texts[0]));
    }
    *value = texts[0];
    return absl::OkStatus();
  };
  option.toml = [value] { return TomlString(*value); };
  option.default_toml = option.toml();
}

void OptionTable::Addresses(absl::string_view name, std::vector<std::string>* value,
                            absl::string_view none, absl::string_view help) {
  Option& option = Add(name, ValueKind::kList, "HOST:PORT", help);
  option.default_text = absl::StrJoin(*value, ",");
  option.set = [value, none = std::string(none)](const std::vector<std::string>& texts) {
    return SetAddresses(texts, none, value);
  };
  option.toml = [value, none = std::string(none)] {
    if (value->empty()) return none.empty() ? "" : TomlString(none);
    return absl::StrCat("[",
                        absl::StrJoin(*value, ", ",
                                      [](std::string* out, const std::string& address) {
                                        out->append(TomlString(address));
                                      }),
                        "]");
  };
  option.default_toml = option.toml();
}

void OptionTable::Number(absl::string_view name, double* value, double low, double high,
                         absl::string_view type, absl::string_view help) {
  Option& option = Add(name, ValueKind::kNumber, type, help);
  option.set = [value, low, high](const std::vector<std::string>& texts) -> absl::Status {
    MOED_ASSIGN_OR_RETURN(*value, ParseNumber(texts[0], low, high));
    return absl::OkStatus();
  };
  option.toml = [value] { return NumberText(*value); };
  option.default_toml = option.toml();
  option.default_text = option.default_toml;
}

const Option* OptionTable::Find(absl::string_view name) const {
  const auto found = std::find_if(options_.begin(), options_.end(),
                                  [&](const Option& option) { return option.name == name; });
  return found == options_.end() ? nullptr : &*found;
}

bool OptionTable::IsChanged(absl::string_view name) const {
  const Option* option = Find(name);
  return option != nullptr && option->toml() != option->default_toml;
}

}  // namespace moed
