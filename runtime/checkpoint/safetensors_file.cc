#include "runtime/checkpoint/safetensors_file.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "runtime/checkpoint/error_text.h"
#include "runtime/checkpoint/shape_view.h"

namespace moed {
namespace {

constexpr int64_t kLengthBytes = 8;

uint64_t LittleEndian64(const std::string& bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

}  // namespace

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(std::string path) {
  MOED_ASSIGN_OR_RETURN(ReadOnlyFile file, ReadOnlyFile::Open(std::move(path)));
  if (file.bytes() < kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        file.path(), ": expected at least 8 bytes (the header's length), found ", file.bytes()));
  }
  MOED_ASSIGN_OR_RETURN(const std::string length_text, file.Read(0, kLengthBytes));
  const uint64_t header_bytes = LittleEndian64(length_text);
  if (header_bytes > uint64_t{kMaxSafetensorsHeaderBytes}) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": expected a header of at most ",
                                                   kMaxSafetensorsHeaderBytes, " bytes, found ",
                                                   header_bytes));
  }
  const auto data_offset = kLengthBytes + static_cast<int64_t>(header_bytes);
  if (data_offset > file.bytes()) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": expected a header of ",
                                                   header_bytes, " bytes, found a file of ",
                                                   file.bytes()));
  }
  MOED_ASSIGN_OR_RETURN(const std::string json,
                        file.Read(kLengthBytes, static_cast<int64_t>(header_bytes)));
  MOED_ASSIGN_OR_RETURN(SafetensorsHeader header,
                        ParseSafetensorsHeader(json, file.bytes() - data_offset, file.path()));
  return SafetensorsFile(std::move(file), data_offset, std::move(header));
}

absl::Status SafetensorsFile::Check(absl::string_view name,
                                    const std::vector<int64_t>& shape) const {
  const auto place = header_.tensors.find(name);
  if (place == header_.tensors.end()) {
    return TensorError(path(), name, ShapeText(shape), "no such tensor");
  }
  const SafetensorsEntry& entry = place->second;
  if (entry.shape != shape) {
    return TensorError(path(), name, absl::StrCat("shape ", ShapeText(shape)),
                       ShapeText(entry.shape));
  }
  if (!entry.dtype) {
    return TensorError(path(), name, "dtype BF16, F16 or F32", entry.dtype_name);
  }
  return absl::OkStatus();
}

absl::StatusOr<LoadedTensor> SafetensorsFile::Load(absl::string_view name,
                                                   const std::vector<int64_t>& shape) const {
  MOED_RETURN_IF_ERROR(Check(name, shape));
  const SafetensorsEntry& entry = header_.tensors.find(name)->second;
  const int64_t bytes = entry.end - entry.begin;
  MOED_ASSIGN_OR_RETURN(Buffer storage, file_.Map(data_offset_ + entry.begin, bytes));
  if (reinterpret_cast<uintptr_t>(storage.data()) % DTypeBytes(*entry.dtype) != 0) {
    MOED_ASSIGN_OR_RETURN(Buffer aligned, AllocateHostBuffer(bytes));
    std::memcpy(aligned.data(), storage.data(), static_cast<size_t>(bytes));
    storage = std::move(aligned);
  }
  const ConstTensorView view = ViewOfShape(storage.data(), *entry.dtype, shape);
  return LoadedTensor{view, std::move(storage)};
}

}  // namespace moed
