#include "server/http/http_conversation.h"

#include <utility>

#include "server/http/response_text.h"

namespace moed {

HttpConversation::HttpConversation(const HttpLimits& limits, std::string peer_address,
                                   const HttpHandler* handler, std::function<absl::Time()> now)
    : reader_(limits),
      peer_address_(std::move(peer_address)),
      handler_(handler),
      now_(std::move(now)) {}

std::optional<HttpConversation::Reply> HttpConversation::NextReply() {
  switch (reader_.Advance()) {
    case RequestReader::State::kNeedsBytes:
      return std::nullopt;
    case RequestReader::State::kWantsContinue:
      return Reply{"HTTP/1.1 100 Continue\r\n\r\n", false};
    case RequestReader::State::kRefused:
      return Refusal(reader_.refused_status());
    case RequestReader::State::kComplete:
      break;
  }
  ResponseFraming framing;
  framing.keep_alive = reader_.keep_alive();
  framing.is_http_1_0 = reader_.is_http_1_0();
  framing.now = now_();
  HttpRequest request = reader_.TakeRequest();
  request.peer_address = peer_address_;
  framing.is_head = request.method == "HEAD";
  return Reply{FormatResponse((*handler_)(request), framing), !framing.keep_alive};
}

HttpConversation::Reply HttpConversation::Refusal(int status) const {
  ResponseFraming framing;
  framing.keep_alive = false;
  framing.now = now_();
  return {FormatResponse(ErrorResponse(status), framing), true};
}

}  // namespace moed
