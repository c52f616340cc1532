#include "server/http/response_text.h"

#include <boost/beast/http/status.hpp>

#include "absl/strings/str_cat.h"
#include "kernels/core/check.h"

namespace moed {
namespace {

std::string Reason(int status) {
  const boost::beast::string_view text =
      boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(status));
  return {text.data(), text.size()};
}

void AppendField(absl::string_view name, absl::string_view value, std::string* text) {
  MOED_CHECK(value.find_first_of("\r\n") == absl::string_view::npos, "a field is one line");
  absl::StrAppend(text, name, ": ", value, "\r\n");
}

}  // namespace

std::string FormatResponse(const HttpResponse& response, const ResponseFraming& framing) {
  std::string text =
      absl::StrCat("HTTP/1.1 ", response.status, " ", Reason(response.status), "\r\n");
  AppendField("Date",
              absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", framing.now, absl::UTCTimeZone()),
              &text);
  AppendField("Content-Type", response.content_type, &text);
  AppendField("Content-Length", absl::StrCat(response.body.size()), &text);
  AppendField("Cache-Control", "no-store", &text);
  AppendField("X-Content-Type-Options", "nosniff", &text);
  for (const auto& [name, value] : response.headers) AppendField(name, value, &text);
  if (!framing.keep_alive) {
    AppendField("Connection", "close", &text);
  } else if (framing.is_http_1_0) {
    AppendField("Connection", "keep-alive", &text);
  }
  text += "\r\n";
  if (!framing.is_head) text += response.body;
  return text;
}

HttpResponse ErrorResponse(int status) {
  HttpResponse response;
  response.status = status;
  response.body = absl::StrCat(status, " ", Reason(status), "\n");
  return response;
}

}  // namespace moed
