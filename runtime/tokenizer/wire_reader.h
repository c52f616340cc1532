// Reads the protobuf wire format from memory, field by field, trusting nothing.
// The format: protobuf.dev, "Encoding".
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moed {

enum class WireType : uint8_t {
  kVarint = 0,
  kFixed64 = 1,
  kBytes = 2,  // strings, bytes, messages
  kFixed32 = 5,
};

// One field. Its accessors return INVALID_ARGUMENT "expected ..., found ..." where the wire type
// is not that of the asked-for type.
struct WireField {
  uint32_t number = 0;
  WireType type = WireType::kVarint;
  uint64_t scalar = 0;      // of the first, second and fourth type
  absl::string_view bytes;  // of kBytes; a view of the reader's input

  absl::StatusOr<bool> AsBool() const;
  absl::StatusOr<int64_t> AsInteger() const;
  absl::StatusOr<float> AsFloat() const;
  absl::StatusOr<absl::string_view> AsBytes() const;
  // AsBytes, and the bytes must be well-formed UTF-8.
  absl::StatusOr<absl::string_view> AsText() const;
};

class WireReader {
 public:
  // `message` must outlive the reader and every field it returns.
  explicit WireReader(absl::string_view message) : rest_(message), num_bytes_(message.size()) {}

  bool Done() const { return rest_.empty(); }

  // The next field; Done() must be false. INVALID_ARGUMENT "at byte N: expected ..., found ..."
  // for bytes that are no field, among them groups, which this project's files never have.
  absl::StatusOr<WireField> Next();

 private:
  absl::Status Error(absl::string_view expected, absl::string_view found) const;
  absl::StatusOr<uint64_t> ReadVarint();
  absl::StatusOr<uint64_t> ReadFixed(size_t num_bytes);
  absl::StatusOr<absl::string_view> ReadBytes();

  absl::string_view rest_;
  size_t num_bytes_;  // of the whole message, for the place in errors
};

}  // namespace moed
