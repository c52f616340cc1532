// Compares the files of a checkpoint with the digests that were published with them.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moed {

using Sha256Digest = std::array<uint8_t, 32>;

// Lies beside the shards; what `sha256sum *.safetensors > SHA256SUMS` writes.
inline constexpr char kDigestFile[] = "SHA256SUMS";

// Lines of 64 hexadecimal digits, a space, a space or "*", and a file's name. INVALID_ARGUMENT
// names `file` and the line. A name that comes twice is refused.
absl::StatusOr<std::map<std::string, Sha256Digest>> ParseDigestFile(absl::string_view text,
                                                                    const std::string& file);

// Reads every one of `files` in `directory` and compares it with kDigestFile, which must name each
// of them; OK where there is no such file. DATA_LOSS names the file, with the digests expected and
// found. `progress`, with the part of the bytes that has been read, [0, 1], may end it by returning
// false: CANCELLED. Reads with the page cache's help: what follows finds the files there.
absl::Status VerifyDigests(const std::string& directory, const std::vector<std::string>& files,
                           const std::function<bool(double)>& progress);

}  // namespace moed
