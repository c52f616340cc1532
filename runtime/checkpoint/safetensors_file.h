// One safetensors file.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/checkpoint/read_only_file.h"
#include "runtime/checkpoint/safetensors_header.h"
#include "runtime/checkpoint/weight_source.h"

namespace moed {

// Immutable after Open; thread-safe. Errors name the file by its path.
class SafetensorsFile {
 public:
  // Reads the header only. INVALID_ARGUMENT for a malformed file.
  static absl::StatusOr<SafetensorsFile> Open(std::string path);

  const std::string& path() const { return file_.path(); }
  const SafetensorsHeader& header() const { return header_; }

  // INVALID_ARGUMENT unless the tensor is here, with `shape` and a dtype of BF16, F16 or F32.
  absl::Status Check(absl::string_view name, const std::vector<int64_t>& shape) const;
  // After the same checks, maps the tensor's bytes. Where they lie misaligned for their dtype, they
  // are copied. `shape` has one to four dimensions, none of them 0.
  absl::StatusOr<LoadedTensor> Load(absl::string_view name,
                                    const std::vector<int64_t>& shape) const;

 private:
  SafetensorsFile(ReadOnlyFile file, int64_t data_offset, SafetensorsHeader header)
      : file_(std::move(file)), data_offset_(data_offset), header_(std::move(header)) {}

  ReadOnlyFile file_;
  int64_t data_offset_;
  SafetensorsHeader header_;
};

}  // namespace moed
