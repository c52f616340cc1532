// What handlers of HTTP requests get and give.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace moed {

// Members have initializers so that some of them can be left out where one is made.
struct HttpRequest {
  std::string method = {};        // "GET", "HEAD", "POST"
  std::string path = {};          // decoded, without the query: "/metrics"
  std::string query = {};         // undecoded, without "?"
  std::string peer_address = {};  // without the port
  std::optional<std::string> authorization = {};
  std::string accept = {};
  std::string body = {};
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;  // left out by the server where the method is HEAD
  std::vector<std::pair<std::string, std::string>> headers;  // besides the usual
};

// Called on the server's threads, several at a time. Must not block for long.
using HttpHandler = std::function<HttpResponse(const HttpRequest&)>;

}  // namespace moed
