#include "runtime/tokenizer/wire_reader.h"

#include <bit>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "runtime/tokenizer/utf8.h"

namespace moed {
namespace {

constexpr int kMaxVarintBytes = 10;
constexpr uint64_t kMaxTag = (uint64_t{1} << 32) - 1;

absl::string_view WireTypeName(WireType type) {
  switch (type) {
    case WireType::kVarint:
      return "a varint";
    case WireType::kFixed64:
      return "8 fixed bytes";
    case WireType::kBytes:
      return "length-delimited bytes";
    case WireType::kFixed32:
      return "4 fixed bytes";
  }
  return "an unknown wire type";
}

absl::Status CheckType(const WireField& field, WireType expected) {
  if (field.type == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("expected ", WireTypeName(expected), ", found ", WireTypeName(field.type)));
}

}  // namespace

absl::StatusOr<bool> WireField::AsBool() const {
  MOED_RETURN_IF_ERROR(CheckType(*this, WireType::kVarint));
  return scalar != 0;
}

absl::StatusOr<int64_t> WireField::AsInteger() const {
  MOED_RETURN_IF_ERROR(CheckType(*this, WireType::kVarint));
  return static_cast<int64_t>(scalar);
}

absl::StatusOr<float> WireField::AsFloat() const {
  MOED_RETURN_IF_ERROR(CheckType(*this, WireType::kFixed32));
  return std::bit_cast<float>(static_cast<uint32_t>(scalar));
}

absl::StatusOr<absl::string_view> WireField::AsBytes() const {
  MOED_RETURN_IF_ERROR(CheckType(*this, WireType::kBytes));
  return bytes;
}

absl::StatusOr<absl::string_view> WireField::AsText() const {
  MOED_RETURN_IF_ERROR(CheckType(*this, WireType::kBytes));
  if (!IsValidUtf8(bytes)) {
    return absl::InvalidArgumentError("expected UTF-8 text, found malformed bytes");
  }
  return bytes;
}

absl::Status WireReader::Error(absl::string_view expected, absl::string_view found) const {
  return absl::InvalidArgumentError(absl::StrCat("at byte ", num_bytes_ - rest_.size(),
                                                 ": expected ", expected, ", found ", found));
}

absl::StatusOr<uint64_t> WireReader::ReadVarint() {
  uint64_t value = 0;
  for (int i = 0; i < kMaxVarintBytes; ++i) {
    if (rest_.empty()) return Error("the rest of a varint", "the end");
    const uint8_t byte = static_cast<uint8_t>(rest_[0]);
    rest_.remove_prefix(1);
    if (i == kMaxVarintBytes - 1 && byte > 1) break;
    value |= uint64_t{byte & 0x7Fu} << (7 * i);
    if ((byte & 0x80) == 0) return value;
  }
  return Error("a varint of 64 bits", "a longer one");
}

absl::StatusOr<uint64_t> WireReader::ReadFixed(size_t num_bytes) {
  if (rest_.size() < num_bytes) {
    return Error(absl::StrCat(num_bytes, " fixed bytes"), absl::StrCat(rest_.size()));
  }
  uint64_t value = 0;
  for (size_t i = 0; i < num_bytes; ++i) {
    value |= uint64_t{static_cast<uint8_t>(rest_[i])} << (8 * i);
  }
  rest_.remove_prefix(num_bytes);
  return value;
}

absl::StatusOr<absl::string_view> WireReader::ReadBytes() {
  MOED_ASSIGN_OR_RETURN(const uint64_t length, ReadVarint());
  if (length > rest_.size()) {
    return Error(absl::StrCat(length, " bytes"), absl::StrCat(rest_.size()));
  }
  const absl::string_view bytes = rest_.substr(0, static_cast<size_t>(length));
  rest_.remove_prefix(bytes.size());
  return bytes;
}

absl::StatusOr<WireField> WireReader::Next() {
  MOED_ASSIGN_OR_RETURN(const uint64_t tag, ReadVarint());
  if (tag > kMaxTag || (tag >> 3) == 0) {
    return Error("a field number from 1 to 536870911", absl::StrCat(tag >> 3));
  }
  WireField field;
  field.number = static_cast<uint32_t>(tag >> 3);
  switch (tag & 7) {
    case 0: {
      MOED_ASSIGN_OR_RETURN(field.scalar, ReadVarint());
      field.type = WireType::kVarint;
      return field;
    }
    case 1: {
      MOED_ASSIGN_OR_RETURN(field.scalar, ReadFixed(8));
      field.type = WireType::kFixed64;
      return field;
    }
    case 2: {
      MOED_ASSIGN_OR_RETURN(field.bytes, ReadBytes());
      field.type = WireType::kBytes;
      return field;
    }
    case 5: {
      MOED_ASSIGN_OR_RETURN(field.scalar, ReadFixed(4));
      field.type = WireType::kFixed32;
      return field;
    }
    default:
      return Error("wire type 0, 1, 2 or 5", absl::StrCat("wire type ", tag & 7));
  }
}

}  // namespace moed
