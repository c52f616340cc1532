// A response as it is sent.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/http/http_message.h"

namespace moed {

// What the server itself knows of the exchange.
struct ResponseFraming {
  bool keep_alive = true;
  bool is_http_1_0 = false;
  bool is_head = false;
  absl::Time now;  // Date
};

// With the header fields that every response has: Date, Content-Length, Connection where it is not
// the default, and those that keep browsers from guessing and storing.
std::string FormatResponse(const HttpResponse& response, const ResponseFraming& framing);

// "400 Bad Request" and the like, as text for whoever looks at it.
HttpResponse ErrorResponse(int status);

}  // namespace moed
