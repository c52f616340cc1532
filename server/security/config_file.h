// Reads the small files that keys and certificates come in.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace moed {

enum class FileTrust {
  kAnyMode,
  kOwnerWrites,  // PERMISSION_DENIED where its group or others may write
};

// The content of a regular file of at most 1 MiB. NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT or
// FAILED_PRECONDITION say what is wrong without the path: the caller names the file.
absl::StatusOr<std::string> ReadConfigFile(const std::string& path, FileTrust trust);

}  // namespace moed
