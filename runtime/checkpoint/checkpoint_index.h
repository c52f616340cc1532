// model.safetensors.index.json: which shard holds which tensor.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moed {

struct CheckpointIndex {
  std::string file;                                  // names the source in errors
  std::optional<int64_t> total_size_bytes;           // of all tensors, as its metadata states
  std::vector<std::string> shards;                   // plain file names, sorted
  std::map<std::string, int, std::less<>> shard_of;  // tensor name to its place in `shards`
};

// A shard's name must be a plain file name that ends in ".safetensors": absolute paths, separators
// and ".." are refused, so that an index cannot name a file outside its directory. A file of that
// name may be a symbolic link, which the Hugging Face cache is made of: who can place links in the
// directory needs no index to choose what is read. INVALID_ARGUMENT with file, tensor and found.
absl::StatusOr<CheckpointIndex> ParseCheckpointIndex(absl::string_view json,
                                                     absl::string_view file);

}  // namespace moed
