// The file of --config: TOML, a key per option. Knows TOML, not the options.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moed {

enum class TomlKind : uint8_t { kText, kInteger, kNumber, kBoolean, kList, kOther };

struct TomlEntry {
  std::string key;
  int line = 0;  // from 1
  TomlKind kind = TomlKind::kOther;
  std::vector<std::string> values;  // one, but for a list; none for kOther
};

// "a text", "a table or a date": for messages.
const char* TomlKindName(TomlKind kind);

inline constexpr size_t kMaxTomlBytes = size_t{64} << 10;

// In the order of the file. A list is one of texts; any other array is kOther. INVALID_ARGUMENT
// names the line of what is no TOML: bad UTF-8, a key that comes twice, nesting without end.
absl::StatusOr<std::vector<TomlEntry>> ParseToml(absl::string_view text);

// NOT_FOUND, PERMISSION_DENIED or INVALID_ARGUMENT (too large, a directory), and as ParseToml;
// without the path, which the caller names.
absl::StatusOr<std::vector<TomlEntry>> ReadTomlFile(const std::string& path);

}  // namespace moed
