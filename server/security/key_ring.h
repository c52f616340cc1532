// The keys that clients may use, kept as hashes, read from a file.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/core/mutex.h"
#include "server/security/caller.h"

namespace moed {

using KeyHash = std::array<uint8_t, 32>;  // SHA-256 of the key's bytes

struct KeyEntry {
  std::string name;  // for the log and the limits: 1 to 64 of [A-Za-z0-9._-], unique
  Role role = Role::kUser;
  KeyHash hash = {};  // unique
};

// A line per key, "ROLE NAME sha256:HEX" with ROLE user, monitor or admin; "#" begins a comment.
// INVALID_ARGUMENT names the line and what is wrong with it, without showing what it holds; also
// for a file without a key, which would lock everybody out, and for the hash of the empty key.
absl::StatusOr<std::vector<KeyEntry>> ParseKeyFile(absl::string_view text);

// Thread-safe. Lookups compare with every key in constant time.
class KeyRing {
 public:
  // Reads the file. NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT or FAILED_PRECONDITION name it;
  // a file that others than its owner may write is refused.
  static absl::StatusOr<std::shared_ptr<KeyRing>> Load(const std::string& path);

  // Reads the file again. On an error the keys stay as they are.
  absl::Status Reload();

  std::optional<Caller> Find(absl::string_view key) const;
  size_t size() const;

 private:
  explicit KeyRing(std::string path) : path_(std::move(path)) {}

  std::shared_ptr<const std::vector<KeyEntry>> entries() const;

  const std::string path_;
  mutable Mutex mutex_;
  std::shared_ptr<const std::vector<KeyEntry>> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moed
