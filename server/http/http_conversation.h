// What is said on one connection: bytes in, bytes out, in order. No socket and no timer, so that
// tests and fuzzing can hold it too.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "server/http/http_message.h"
#include "server/http/request_reader.h"

namespace moed {

// One thread at a time.
class HttpConversation {
 public:
  struct Reply {
    std::string bytes;
    bool close = false;  // nothing more is said after it
  };

  // `handler` must outlive it.
  HttpConversation(const HttpLimits& limits, std::string peer_address, const HttpHandler* handler,
                   std::function<absl::Time()> now = absl::Now);

  void Receive(absl::string_view bytes) { reader_.Append(bytes); }

  // What is to be written next, for one request at a time: a request is not looked at before the
  // answer to the one before it has been asked for. Nullopt: more must be received.
  std::optional<Reply> NextReply();

  // To a request that took too long.
  Reply TimeoutReply() const { return Refusal(408); }

  // Whether a request has begun and is not answered.
  bool is_mid_request() const { return reader_.is_mid_request(); }

 private:
  Reply Refusal(int status) const;

  RequestReader reader_;
  const std::string peer_address_;
  const HttpHandler* const handler_;
  const std::function<absl::Time()> now_;
};

}  // namespace moed
