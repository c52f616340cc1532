// The options of a program, each declared once: its flag, its environment variable, its key in the
// config file, its help, what it may be and where it goes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "kernels/core/status.h"
#include "server/app/option_value.h"

namespace moed {

enum class ValueKind : uint8_t { kText, kInteger, kNumber, kSize, kBoolean, kList };

// What a value came from; a later one beats an earlier one.
enum class ValueSource : uint8_t { kDefault, kFile, kEnvironment, kFlag };

struct Option {
  std::string name;  // "kv-blocks": flag --kv-blocks, key kv-blocks, variable MOED_KV_BLOCKS
  std::string group;
  std::string help;
  std::string type;          // "N", for --help
  std::string default_text;  // for --help; empty: none is shown
  std::string default_toml;
  ValueKind kind = ValueKind::kText;
  ValueSource source = ValueSource::kDefault;
  // Reads, checks and stores. A list gets all its elements, the others one text.
  std::function<absl::Status(const std::vector<std::string>&)> set;
  // The value as TOML; empty where it is not set.
  std::function<std::string()> toml;

  std::string flag() const { return "--" + name; }
  std::string variable() const;
};

// Options refer to the variables that they are declared with, which must outlive the table.
class OptionTable {
 public:
  // The options declared from now on.
  void BeginGroup(std::string group) { group_ = std::move(group); }

  // What to do instead of serving: a flag only.
  void Action(absl::string_view name, bool* value, absl::string_view help);

  // False until given.
  void Boolean(absl::string_view name, bool* value, absl::string_view help);
  // "no-x" for a value that is true until it is given.
  void NegatedBoolean(absl::string_view name, bool* value, absl::string_view help);

  void Text(absl::string_view name, std::string* value, absl::string_view type,
            absl::string_view help);
  void Choice(absl::string_view name, std::string* value, absl::string_view type,
              std::vector<std::string> choices, absl::string_view help);
  // `none` stands for an empty list; empty: there is no such word.
  void Addresses(absl::string_view name, std::vector<std::string>* value, absl::string_view none,
                 absl::string_view help);
  void Number(absl::string_view name, double* value, double low, double high,
              absl::string_view type, absl::string_view help);
  void Seconds(absl::string_view name, double* value, double low, double high,
               absl::string_view help) {
    Number(name, value, low, high, "SECONDS", help);
  }

  // In [low, high]; a value out of it, like 0 for "from something else", is not set.
  template <typename T>
  void Integer(absl::string_view name, T* value, int64_t low, int64_t high, absl::string_view help);
  template <typename T>
  void Size(absl::string_view name, T* value, int64_t low, int64_t high, absl::string_view help);

  std::deque<Option>& options() { return options_; }
  const std::deque<Option>& options() const { return options_; }
  // Null where there is none.
  const Option* Find(absl::string_view name) const;
  // Whether an option has another value than its default, wherever that came from.
  bool IsChanged(absl::string_view name) const;

  struct ActionFlag {
    std::string name;
    std::string help;
    bool* value;
  };
  const std::vector<ActionFlag>& actions() const { return actions_; }

 private:
  Option& Add(absl::string_view name, ValueKind kind, absl::string_view type,
              absl::string_view help);

  std::string group_;
  std::deque<Option> options_;
  std::vector<ActionFlag> actions_;
};

inline constexpr int64_t kNoUpperBound = std::numeric_limits<int64_t>::max();

template <typename T>
inline constexpr int64_t kMostOf = std::in_range<int64_t>(std::numeric_limits<T>::max())
                                       ? std::numeric_limits<T>::max()
                                       : kNoUpperBound;

template <typename T>
void OptionTable::Integer(absl::string_view name, T* value, int64_t low, int64_t high,
                          absl::string_view help) {
  high = std::min(high, kMostOf<T>);
  Option& option = Add(name, ValueKind::kInteger, "N", help);
  option.set = [value, low, high](const std::vector<std::string>& texts) -> absl::Status {
    MOED_ASSIGN_OR_RETURN(const int64_t parsed, ParseInteger(texts[0], low, high));
    *value = static_cast<T>(parsed);
    return absl::OkStatus();
  };
  option.toml = [value, low] {
    return static_cast<int64_t>(*value) < low ? "" : std::to_string(*value);
  };
  option.default_toml = option.toml();
  option.default_text = option.default_toml;
}

template <typename T>
void OptionTable::Size(absl::string_view name, T* value, int64_t low, int64_t high,
                       absl::string_view help) {
  high = std::min(high, kMostOf<T>);
  Option& option = Add(name, ValueKind::kSize, "SIZE", help);
  option.set = [value, low, high](const std::vector<std::string>& texts) -> absl::Status {
    MOED_ASSIGN_OR_RETURN(const int64_t parsed, ParseSize(texts[0], low, high));
    *value = static_cast<T>(parsed);
    return absl::OkStatus();
  };
  option.toml = [value, low] {
    const auto bytes = static_cast<int64_t>(*value);
    return bytes < low ? "" : TomlString(SizeText(bytes));
  };
  option.default_toml = option.toml();
  const auto bytes = static_cast<int64_t>(*value);
  option.default_text = bytes < low ? "" : SizeText(bytes);
}

}  // namespace moed
