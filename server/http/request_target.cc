#include "server/http/request_target.h"

#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace moed {
namespace {

// -1: not a digit.
int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> DecodePath(absl::string_view text) {
  std::string path;
  path.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (text.size() - i < 3) return std::nullopt;
      const int high = HexDigit(text[i + 1]);
      const int low = HexDigit(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) return std::nullopt;
    path.push_back(c);
  }
  return path;
}

// What follows the scheme and the authority of an absolute target.
absl::string_view WithoutOrigin(absl::string_view target) {
  for (const absl::string_view scheme : {"http://", "https://"}) {
    if (!absl::StartsWithIgnoreCase(target, scheme)) continue;
    const absl::string_view rest = target.substr(scheme.size());
    const size_t end = rest.find_first_of("/?");
    return end == absl::string_view::npos ? absl::string_view("/") : rest.substr(end);
  }
  return target;
}

}  // namespace

std::optional<RequestTarget> ParseRequestTarget(absl::string_view target) {
  if (target == "*") return RequestTarget{"*", ""};
  const absl::string_view origin_form = WithoutOrigin(target);
  if (absl::StrContains(origin_form, '#')) return std::nullopt;
  const size_t question = origin_form.find('?');
  absl::string_view path = origin_form.substr(0, question);
  // "http://host?query" has the path "/".
  if (path.empty() && origin_form.size() != target.size()) path = "/";
  if (!absl::StartsWith(path, "/")) return std::nullopt;
  std::optional<std::string> decoded = DecodePath(path);
  if (!decoded.has_value()) return std::nullopt;
  RequestTarget result{*std::move(decoded), ""};
  if (question != absl::string_view::npos) {
    const absl::string_view query = origin_form.substr(question + 1);
    result.query.assign(query.data(), query.size());
  }
  return result;
}

}  // namespace moed
