// Writes safetensors files for tests, well-formed or as broken as a test wants them.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace moed {

struct StoredTensor {
  std::string name;
  std::string dtype;  // "BF16", "F16", "F32", ...
  std::vector<int64_t> shape;
  std::string bytes;
};

// The length in eight little-endian bytes, `header`, `data`: whatever they hold.
inline std::string RawSafetensors(absl::string_view header, absl::string_view data) {
  std::string file;
  for (int i = 0; i < 8; ++i) file.push_back(static_cast<char>(header.size() >> (8 * i) & 0xff));
  file.append(header.data(), header.size());
  file.append(data.data(), data.size());
  return file;
}

// One entry of a header, without the braces around it.
inline std::string SafetensorsEntryJson(const StoredTensor& tensor, int64_t begin) {
  return absl::StrCat("\"", tensor.name, "\":{\"dtype\":\"", tensor.dtype, "\",\"shape\":[",
                      absl::StrJoin(tensor.shape, ","), "],\"data_offsets\":[", begin, ",",
                      begin + static_cast<int64_t>(tensor.bytes.size()), "]}");
}

// A well-formed file with the tensors' data in the order given. The data begins at a multiple of
// `data_alignment` bytes: the header is padded with spaces, as the format allows.
inline std::string SafetensorsBytes(const std::vector<StoredTensor>& tensors,
                                    size_t data_alignment = 8) {
  std::string header = "{\"__metadata__\":{\"format\":\"pt\"}";
  std::string data;
  for (const StoredTensor& tensor : tensors) {
    absl::StrAppend(&header, ",", SafetensorsEntryJson(tensor, static_cast<int64_t>(data.size())));
    data += tensor.bytes;
  }
  header += "}";
  while ((8 + header.size()) % data_alignment != 0) header += " ";
  return RawSafetensors(header, data);
}

// The bytes of trivially copyable elements.
template <typename T>
std::string BytesOf(const std::vector<T>& elements) {
  std::string bytes(elements.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), elements.data(), bytes.size());
  return bytes;
}

}  // namespace moed
