// Fuzzes what is said on a connection of the admin port: parser, limits, routes. Input: the bytes
// that a client sends. However they are cut into pieces, the same requests must be seen: two
// readers that disagree about where one ends is how requests are smuggled.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/core/check.h"
#include "server/http/admin_pages.h"
#include "server/http/http_conversation.h"
#include "server/security/authenticator.h"
#include "server/state/lifecycle.h"
#include "server/state/serving_state.h"

namespace {

// Small, so that short inputs reach them.
constexpr moed::HttpLimits kLimits = {.header_bytes = 512, .body_bytes = 256};

moed::AdminPages MakePages() {
  static const moed::ServingState state;
  static const moed::Lifecycle lifecycle;
  static const moed::Authenticator authenticator(nullptr);
  moed::AdminPageSources sources;
  sources.state = &state;
  sources.lifecycle = &lifecycle;
  sources.authenticator = &authenticator;
  sources.metrics = sources.expert_metrics = [] { return std::string("moed_ready 0\n"); };
  return moed::AdminPages(std::move(sources));
}

void CheckReply(const moed::HttpConversation::Reply& reply) {
  const absl::string_view bytes = reply.bytes;
  MOED_CHECK(absl::StartsWith(bytes, "HTTP/1.1 "), "a reply has a status line");
  if (absl::StartsWith(bytes, "HTTP/1.1 100 ")) return;
  const size_t end = bytes.find("\r\n\r\n");
  MOED_CHECK(end != absl::string_view::npos, "a reply's header ends");
  const absl::string_view header = bytes.substr(0, end + 2);
  MOED_CHECK(absl::StrContains(header, "\r\nX-Content-Type-Options: nosniff\r\n"),
             "every reply has the fields of security");
  const absl::string_view body = bytes.substr(end + 4);
  MOED_CHECK(body.empty() || absl::StrContains(
                                 header, absl::StrCat("\r\nContent-Length: ", body.size(), "\r\n")),
             "a reply says how long it is");
  MOED_CHECK(reply.close == absl::StrContains(header, "\r\nConnection: close\r\n"),
             "the end of a connection is announced");
}

// The requests that are seen in `bytes`, given to the reader in pieces of `size`.
std::vector<std::string> Talk(absl::string_view bytes, size_t size) {
  static const moed::AdminPages pages = MakePages();
  std::vector<std::string> seen;
  const moed::HttpHandler handler = [&seen](const moed::HttpRequest& request) {
    MOED_CHECK(request.path.find('\0') == std::string::npos, "a path is text");
    MOED_CHECK(request.body.size() <= kLimits.body_bytes, "a body is within its limit");
    seen.push_back(absl::StrCat(request.method, " ", request.path, "?", request.query, " ",
                                request.authorization.value_or("-"), " ", request.accept, " ",
                                request.body));
    return pages.Handle(request);
  };
  moed::HttpConversation conversation(kLimits, "192.0.2.1", &handler);
  while (!bytes.empty()) {
    const absl::string_view piece = bytes.substr(0, size);
    bytes.remove_prefix(piece.size());
    conversation.Receive(piece);
    while (const auto reply = conversation.NextReply()) {
      CheckReply(*reply);
      if (reply->close) return seen;
    }
  }
  CheckReply(conversation.TimeoutReply());
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::vector<std::string> whole = Talk(bytes, size);
  MOED_CHECK(Talk(bytes, 1) == whole, "single bytes say the same as all at once");
  MOED_CHECK(Talk(bytes, 7) == whole, "pieces say the same as all at once");
  return 0;
}
