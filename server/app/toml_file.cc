#include "server/app/toml_file.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/app/option_value.h"

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

namespace moed {
namespace {

// The parser bounds the nesting of values, not of dotted keys, and tables are destroyed by
// recursion. No key of ours has a dot.
constexpr int kMaxDots = 4096;

TomlEntry Entry(const toml::key& key, const toml::node& node) {
  TomlEntry entry;
  entry.key = std::string(key.str());
  entry.line = static_cast<int>(key.source().begin.line);
  if (const auto* text = node.as_string()) {
    entry.kind = TomlKind::kText;
    entry.values.push_back(text->get());
  } else if (const auto* whole = node.as_integer()) {
    entry.kind = TomlKind::kInteger;
    entry.values.push_back(absl::StrCat(whole->get()));
  } else if (const auto* number = node.as_floating_point()) {
    entry.kind = TomlKind::kNumber;
    entry.values.push_back(NumberText(number->get()));
  } else if (const auto* boolean = node.as_boolean()) {
    entry.kind = TomlKind::kBoolean;
    entry.values.push_back(boolean->get() ? "true" : "false");
  } else if (const auto* array = node.as_array()) {
    entry.kind = TomlKind::kList;
    for (const toml::node& element : *array) {
      if (element.is_string()) {
        entry.values.push_back(element.as_string()->get());
      } else {
        entry.kind = TomlKind::kOther;
      }
    }
  }
  return entry;
}

}  // namespace

const char* TomlKindName(TomlKind kind) {
  switch (kind) {
    case TomlKind::kText:
      return "a text";
    case TomlKind::kInteger:
      return "a whole number";
    case TomlKind::kNumber:
      return "a number with a fraction";
    case TomlKind::kBoolean:
      return "true or false";
    case TomlKind::kList:
      return "a list of texts";
    case TomlKind::kOther:
      break;
  }
  return "a table, a date or a list of something else";
}

absl::StatusOr<std::vector<TomlEntry>> ParseToml(absl::string_view text) {
  if (text.size() > kMaxTomlBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("is too large: at most ", kMaxTomlBytes, " bytes are read"));
  }
  if (std::count(text.begin(), text.end(), '.') > kMaxDots) {
    return absl::InvalidArgumentError(absl::StrCat("has more than ", kMaxDots, " dots"));
  }
  const toml::parse_result parsed = toml::parse(std::string_view(text.data(), text.size()));
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    const std::string_view what = error.description();
    return absl::InvalidArgumentError(absl::StrCat("line ", error.source().begin.line, ": ",
                                                   absl::string_view(what.data(), what.size())));
  }
  std::vector<TomlEntry> entries;
  for (const auto& [key, node] : parsed.table()) entries.push_back(Entry(key, node));
  std::stable_sort(entries.begin(), entries.end(),
                   [](const TomlEntry& a, const TomlEntry& b) { return a.line < b.line; });
  return entries;
}

absl::StatusOr<std::vector<TomlEntry>> ReadTomlFile(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"),
                                                             &std::fclose);
  if (file == nullptr) return absl::ErrnoToStatus(errno, "cannot be opened");
  std::string text(kMaxTomlBytes + 1, '\0');
  errno = 0;
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return absl::ErrnoToStatus(errno, "cannot be read");
  return ParseToml(text);
}

}  // namespace moed
