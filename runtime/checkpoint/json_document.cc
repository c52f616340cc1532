#include "runtime/checkpoint/json_document.h"

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/checkpoint/error_text.h"

namespace moed {
namespace {

using Json = nlohmann::json;

// Builds the document and stops at the first fault: nlohmann's own builder keeps the last of two
// equal keys and nests without bound. The parser is iterative, and so is the destruction of a
// document, so depth costs no stack before the bound is seen.
class BoundedBuilder : public nlohmann::json_sax<Json> {
 public:
  BoundedBuilder(absl::string_view file, const JsonLimits& limits) : file_(file), limits_(limits) {}

  absl::Status status() && { return std::move(status_); }
  Json document() && { return std::move(root_); }

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return Add(value); }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t& /*value*/) override { return Fail("unexpected binary data"); }

  bool start_object(std::size_t /*elements*/) override { return Open(Json::object()); }
  bool start_array(std::size_t /*elements*/) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& name) override {
    const auto [place, is_new] = open_.back()->emplace(name, nullptr);
    if (!is_new) {
      return Fail(
          absl::StrCat("expected every key once in an object, found ", QuoteName(name), " twice"));
    }
    member_ = &*place;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& /*last_token*/,
                   const nlohmann::detail::exception& error) override {
    // The library prefixes its text with "[json.exception...] "; what follows suits a person.
    absl::string_view text = error.what();
    const size_t prefix = text.find("] ");
    if (prefix != absl::string_view::npos) text.remove_prefix(prefix + 2);
    return Fail(absl::StrCat("expected valid JSON, found a fault at byte ", position, ": ",
                             PrintableText(text, 200)));
  }

 private:
  bool Fail(absl::string_view problem) {
    status_ = absl::InvalidArgumentError(absl::StrCat(file_, ": ", problem));
    return false;
  }

  // Puts `value` where the parser stands; null after a fault.
  Json* Put(Json value) {
    if (open_.empty() && !value.is_object()) {
      Fail(absl::StrCat("expected a JSON object, found ", DescribeJson(value)));
      return nullptr;
    }
    if (++num_values_ > limits_.max_values) {
      Fail(absl::StrCat("expected at most ", limits_.max_values, " JSON values, found more"));
      return nullptr;
    }
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    *member_ = std::move(value);
    return member_;
  }

  template <typename T>
  bool Add(T&& value) {
    return Put(Json(std::forward<T>(value))) != nullptr;
  }

  bool Open(Json empty) {
    if (static_cast<int>(open_.size()) >= limits_.max_depth) {
      return Fail(absl::StrCat("expected JSON nested at most ", limits_.max_depth,
                               " deep, found deeper nesting"));
    }
    Json* container = Put(std::move(empty));
    if (container == nullptr) return false;
    open_.push_back(container);
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  const absl::string_view file_;
  const JsonLimits limits_;
  absl::Status status_;
  Json root_;
  std::vector<Json*> open_;  // containers around the parser's place; only the last one grows
  Json* member_ = nullptr;   // the member that the last key names
  int64_t num_values_ = 0;
};

}  // namespace

absl::StatusOr<Json> ParseJsonObject(absl::string_view text, absl::string_view file,
                                     const JsonLimits& limits) {
  if (static_cast<int64_t>(text.size()) > limits.max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": expected at most ", limits.max_bytes,
                                                   " bytes of JSON, found ", text.size()));
  }
  // The library takes a NUL for the end of its input and would not look behind it.
  const size_t nul = text.find('\0');
  if (nul != absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": expected JSON text, found a NUL at byte ", nul));
  }
  BoundedBuilder builder(file, limits);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) return std::move(builder).status();
  return std::move(builder).document();
}

std::string DescribeJson(const Json& value) {
  if (value.is_object()) return absl::StrCat("an object of ", value.size(), " members");
  if (value.is_array() && value.size() > 8) {
    return absl::StrCat("an array of ", value.size(), " elements");
  }
  return PrintableText(value.dump(-1, ' ', true, Json::error_handler_t::replace), 80);
}

}  // namespace moed
