#include "runtime/checkpoint/safetensors_header.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/core/checked_math.h"
#include "kernels/core/status.h"
#include "runtime/checkpoint/error_text.h"
#include "runtime/checkpoint/json_document.h"

namespace moed {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxDims = 8;
constexpr JsonLimits kHeaderLimits = {
    .max_bytes = kMaxSafetensorsHeaderBytes, .max_depth = 3, .max_values = int64_t{1} << 22};

struct StoredDType {
  const char* name;
  int64_t bits;
  std::optional<DType> dtype;
};

// All of the format's types are understood, so that a file that holds others beside the weights is
// checked; only floats can be loaded.
constexpr StoredDType kStoredDTypes[] = {
    {"BF16", 16, DType::kBFloat16}, {"F16", 16, DType::kFloat16}, {"F32", 32, DType::kFloat32},
    {"F64", 64, std::nullopt},      {"BOOL", 8, std::nullopt},    {"U8", 8, std::nullopt},
    {"I8", 8, std::nullopt},        {"U16", 16, std::nullopt},    {"I16", 16, std::nullopt},
    {"U32", 32, std::nullopt},      {"I32", 32, std::nullopt},    {"U64", 64, std::nullopt},
    {"I64", 64, std::nullopt},      {"F8_E4M3", 8, std::nullopt}, {"F8_E5M2", 8, std::nullopt},
    {"F8_E8M0", 8, std::nullopt},   {"F6_E2M3", 6, std::nullopt}, {"F6_E3M2", 6, std::nullopt},
    {"F4", 4, std::nullopt},        {"C64", 64, std::nullopt},
};

const StoredDType* FindStoredDType(absl::string_view name) {
  for (const StoredDType& stored : kStoredDTypes) {
    if (name == stored.name) return &stored;
  }
  return nullptr;
}

// A whole number from 0 to 2^63 - 1.
std::optional<int64_t> AsSize(const Json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX}) {
    return std::nullopt;
  }
  const auto number = value.get<int64_t>();
  return number >= 0 ? std::optional<int64_t>(number) : std::nullopt;
}

class EntryParser {
 public:
  EntryParser(absl::string_view file, absl::string_view tensor, const Json& object)
      : file_(file), tensor_(tensor), object_(object) {}

  absl::StatusOr<SafetensorsEntry> Parse(int64_t data_bytes) const {
    if (!object_.is_object()) return Fail("a JSON object", DescribeJson(object_));
    for (const auto& [key, value] : object_.items()) {
      if (key != "dtype" && key != "shape" && key != "data_offsets") {
        return Fail("only dtype, shape and data_offsets", absl::StrCat("the key ", QuoteName(key)));
      }
    }
    SafetensorsEntry entry;
    MOED_ASSIGN_OR_RETURN(const int64_t bits, ParseDType(entry));
    MOED_ASSIGN_OR_RETURN(const int64_t bytes, ParseShape(bits, entry));
    MOED_RETURN_IF_ERROR(ParseOffsets(data_bytes, entry));
    if (entry.end - entry.begin != bytes) {
      return Fail(absl::StrCat(bytes, " bytes of ", entry.dtype_name, " ", ShapeText(entry.shape)),
                  absl::StrCat(entry.end - entry.begin, " bytes between its offsets"));
    }
    return entry;
  }

 private:
  absl::Status Fail(absl::string_view expected, absl::string_view found) const {
    return TensorError(file_, tensor_, expected, found);
  }

  std::string Found(const char* key) const {
    const auto place = object_.find(key);
    return place == object_.end() ? "nothing" : DescribeJson(*place);
  }

  // Returns the bits of one element.
  absl::StatusOr<int64_t> ParseDType(SafetensorsEntry& entry) const {
    const auto place = object_.find("dtype");
    const StoredDType* stored = place != object_.end() && place->is_string()
                                    ? FindStoredDType(place->get_ref<const std::string&>())
                                    : nullptr;
    if (stored == nullptr) return Fail("a known dtype", Found("dtype"));
    entry.dtype_name = stored->name;
    entry.dtype = stored->dtype;
    return stored->bits;
  }

  // Returns the bytes of the tensor.
  absl::StatusOr<int64_t> ParseShape(int64_t element_bits, SafetensorsEntry& entry) const {
    const auto place = object_.find("shape");
    if (place == object_.end() || !place->is_array() || place->size() > kMaxDims) {
      return Fail(absl::StrCat("a shape of at most ", kMaxDims, " dimensions"), Found("shape"));
    }
    std::optional<int64_t> bits = element_bits;
    for (const Json& value : *place) {
      const std::optional<int64_t> dim = AsSize(value);
      if (!dim) return Fail("a shape of whole numbers from 0 to 2^63 - 1", Found("shape"));
      entry.shape.push_back(*dim);
      if (bits) bits = CheckedMul(*bits, *dim);
    }
    if (!bits) return Fail("a shape whose size fits 63 bits", ShapeText(entry.shape));
    if (*bits % 8 != 0) return Fail("a whole number of bytes", absl::StrCat(*bits, " bits"));
    return *bits / 8;
  }

  absl::Status ParseOffsets(int64_t data_bytes, SafetensorsEntry& entry) const {
    const auto place = object_.find("data_offsets");
    std::optional<int64_t> begin;
    std::optional<int64_t> end;
    if (place != object_.end() && place->is_array() && place->size() == 2) {
      begin = AsSize((*place)[0]);
      end = AsSize((*place)[1]);
    }
    if (!begin || !end || *begin > *end || *end > data_bytes) {
      return Fail(absl::StrCat("data_offsets [begin, end] with begin <= end <= ", data_bytes,
                               ", the size of the data"),
                  Found("data_offsets"));
    }
    entry.begin = *begin;
    entry.end = *end;
    return absl::OkStatus();
  }

  const absl::string_view file_;
  const absl::string_view tensor_;
  const Json& object_;
};

absl::Status ParseMetadata(const Json& object, absl::string_view file, SafetensorsHeader& header) {
  if (!object.is_object()) {
    return FieldError(file, "__metadata__", "an object of strings", DescribeJson(object));
  }
  for (const auto& [key, value] : object.items()) {
    if (!value.is_string()) {
      return FieldError(file, absl::StrCat("__metadata__.", key), "a string", DescribeJson(value));
    }
    header.metadata.emplace(key, value.get_ref<const std::string&>());
  }
  return absl::OkStatus();
}

absl::Status CheckCoverage(const SafetensorsHeader& header, int64_t data_bytes,
                           absl::string_view file) {
  using Place = std::tuple<int64_t, int64_t, const std::string*>;
  std::vector<Place> places;
  places.reserve(header.tensors.size());
  for (const auto& [name, entry] : header.tensors) {
    places.emplace_back(entry.begin, entry.end, &name);
  }
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    return std::pair(std::get<0>(a), std::get<1>(a)) < std::pair(std::get<0>(b), std::get<1>(b));
  });
  int64_t covered = 0;
  const std::string* previous = nullptr;
  for (const auto& [begin, end, name] : places) {
    if (begin != covered) {
      return TensorError(
          file, *name,
          absl::StrCat(
              "data from byte ", covered,
              previous == nullptr ? "" : absl::StrCat(", where ", QuoteName(*previous), " ends")),
          absl::StrCat(
              begin < covered ? "an overlap: it begins at byte " : "a hole: it begins at byte ",
              begin));
    }
    covered = end;
    previous = name;
  }
  if (covered != data_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": expected ", covered, " bytes of tensor data, found ", data_bytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view json, int64_t data_bytes,
                                                         absl::string_view file) {
  if (json.empty() || json.front() != '{') {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": expected a header that begins with '{', found ",
                     json.empty() ? "nothing" : QuoteName(json.substr(0, 1))));
  }
  MOED_ASSIGN_OR_RETURN(const Json document, ParseJsonObject(json, file, kHeaderLimits));
  SafetensorsHeader header;
  for (const auto& [name, value] : document.items()) {
    if (name == "__metadata__") {
      MOED_RETURN_IF_ERROR(ParseMetadata(value, file, header));
      continue;
    }
    MOED_ASSIGN_OR_RETURN(SafetensorsEntry entry, EntryParser(file, name, value).Parse(data_bytes));
    header.tensors.emplace(name, std::move(entry));
  }
  MOED_RETURN_IF_ERROR(CheckCoverage(header, data_bytes, file));
  return header;
}

}  // namespace moed
