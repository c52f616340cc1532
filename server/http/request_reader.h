// Reads requests from the bytes of a connection. No socket and no clock.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "server/http/body_reader.h"
#include "server/http/http_message.h"

namespace moed {

struct HttpLimits {
  size_t header_bytes = 16 << 10;  // request line and fields; a chunk's header; a trailer
  size_t body_bytes = 1 << 20;
};

// One thread. Keeps no more than the limits and what was appended last.
class RequestReader {
 public:
  enum class State {
    kNeedsBytes,     // Append more
    kWantsContinue,  // the same, and the client waits for "100 Continue"; said once for a request
    kComplete,       // TakeRequest
    kRefused,        // refused_status() says how; nothing more can be read
  };

  explicit RequestReader(const HttpLimits& limits);
  ~RequestReader();

  void Append(absl::string_view bytes);
  State Advance();

  // Whether a request has begun and is not complete.
  bool is_mid_request() const;
  // 400, 413 or 431.
  int refused_status() const { return refused_status_; }

  // Of the request that is complete, or that was refused as far as it has been read.
  bool keep_alive() const;
  bool is_http_1_0() const;

  // Once after kComplete; then the next one is read. `peer_address` is left empty.
  HttpRequest TakeRequest();

 private:
  class Parser;

  State AdvanceHeader();
  State AdvanceBody();
  State Refuse(int status);
  absl::string_view unread() const { return absl::string_view(buffer_).substr(begin_); }

  const HttpLimits limits_;
  std::unique_ptr<Parser> parser_;
  std::string buffer_;
  size_t begin_ = 0;                // of what is not parsed
  size_t header_bytes_ = 0;         // of this request, as sent
  std::optional<BodyReader> body_;  // once the header is complete
  bool is_complete_ = false;
  int refused_status_ = 0;
};

}  // namespace moed
