#include "server/http/request_reader.h"

#include <boost/beast/http/basic_parser.hpp>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "kernels/core/check.h"
#include "server/http/request_target.h"

namespace moed {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;

absl::string_view ToView(boost::beast::string_view text) { return {text.data(), text.size()}; }

std::string ToString(boost::beast::string_view text) { return {text.data(), text.size()}; }

}  // namespace

// Of the header. Keeps what a handler needs and refuses what leaves a doubt about where a request
// ends: Beast lets pass codings that it does not know, and the same length said twice.
class RequestReader::Parser final : public http::basic_parser<true> {
 public:
  explicit Parser(const HttpLimits& limits) {
    header_limit(static_cast<uint32_t>(limits.header_bytes));
    skip(true);
  }

  HttpRequest& request() { return request_; }
  bool is_http_1_0() const { return is_http_1_0_; }

  // Says yes once.
  bool TakeExpectation() { return std::exchange(expects_continue_, false); }

 private:
  void on_request_impl(http::verb /*verb*/, boost::beast::string_view method,
                       boost::beast::string_view target, int version, error_code& error) override {
    request_.method = ToString(method);
    is_http_1_0_ = version < 11;
    std::optional<RequestTarget> parsed = ParseRequestTarget(ToView(target));
    if (!parsed.has_value() || (parsed->path == "*" && request_.method != "OPTIONS")) {
      error = http::error::bad_target;
      return;
    }
    request_.path = std::move(parsed->path);
    request_.query = std::move(parsed->query);
  }

  void on_response_impl(int /*status*/, boost::beast::string_view /*reason*/, int /*version*/,
                        error_code& /*error*/) override {}

  void on_field_impl(http::field field, boost::beast::string_view /*name*/,
                     boost::beast::string_view value, error_code& error) override {
    const absl::string_view text = ToView(value);
    switch (field) {
      case http::field::content_length:
        if (has_content_length_ || absl::StrContains(text, ',')) {
          error = http::error::bad_content_length;
        }
        has_content_length_ = true;
        break;
      case http::field::transfer_encoding:
        if (is_http_1_0_ || !absl::EqualsIgnoreCase(text, "chunked")) {
          error = http::error::bad_transfer_encoding;
        }
        break;
      case http::field::host:
        if (num_hosts_++ > 0) error = http::error::bad_field;
        break;
      case http::field::authorization:
        if (request_.authorization.has_value()) error = http::error::bad_field;
        request_.authorization = ToString(value);
        break;
      case http::field::accept:
        if (!request_.accept.empty()) request_.accept += ", ";
        request_.accept.append(value.data(), value.size());
        break;
      case http::field::expect:
        expects_continue_ = absl::EqualsIgnoreCase(text, "100-continue") && !is_http_1_0_;
        break;
      default:
        break;
    }
  }

  void on_header_impl(error_code& error) override {
    if (num_hosts_ == 0 && !is_http_1_0_) error = http::error::bad_field;
  }

  // Never called: bodies are skipped.
  void on_body_init_impl(const boost::optional<uint64_t>& /*length*/,
                         error_code& /*error*/) override {}
  size_t on_body_impl(boost::beast::string_view /*bytes*/, error_code& /*error*/) override {
    return 0;
  }
  void on_chunk_header_impl(uint64_t /*size*/, boost::beast::string_view /*extensions*/,
                            error_code& /*error*/) override {}
  size_t on_chunk_body_impl(uint64_t /*remaining*/, boost::beast::string_view /*bytes*/,
                            error_code& /*error*/) override {
    return 0;
  }
  void on_finish_impl(error_code& /*error*/) override {}

  HttpRequest request_;
  bool is_http_1_0_ = false;
  bool has_content_length_ = false;
  bool expects_continue_ = false;
  int num_hosts_ = 0;
};

RequestReader::RequestReader(const HttpLimits& limits)
    : limits_(limits), parser_(std::make_unique<Parser>(limits)) {}

RequestReader::~RequestReader() = default;

void RequestReader::Append(absl::string_view bytes) {
  if (refused_status_ != 0) return;
  buffer_.erase(0, begin_);
  begin_ = 0;
  buffer_.append(bytes.data(), bytes.size());
}

RequestReader::State RequestReader::Refuse(int status) {
  refused_status_ = status;
  buffer_.clear();
  begin_ = 0;
  return State::kRefused;
}

RequestReader::State RequestReader::Advance() {
  if (refused_status_ != 0) return State::kRefused;
  if (!body_.has_value()) {
    const State state = AdvanceHeader();
    if (!body_.has_value()) return state;
  }
  return AdvanceBody();
}

RequestReader::State RequestReader::AdvanceHeader() {
  const absl::string_view bytes = unread();
  if (bytes.empty()) return State::kNeedsBytes;
  error_code error;
  const size_t num_parsed = parser_->put(boost::asio::buffer(bytes.data(), bytes.size()), error);
  begin_ += num_parsed;
  header_bytes_ += num_parsed;
  if (error == http::error::header_limit) return Refuse(431);
  if (error && error != http::error::need_more) return Refuse(400);
  // Beast's own limit is on what it sees at a time, not on all fields together.
  const size_t waiting = error ? unread().size() : 0;
  if (header_bytes_ + waiting > limits_.header_bytes) return Refuse(431);
  if (!parser_->is_header_done()) return State::kNeedsBytes;
  const BodyReader::Limits limits = {.body_bytes = limits_.body_bytes,
                                     .line_bytes = limits_.header_bytes};
  body_ = parser_->chunked() ? BodyReader::Chunked(limits)
                             : BodyReader::OfLength(parser_->content_length().value_or(0), limits);
  return State::kNeedsBytes;
}

RequestReader::State RequestReader::AdvanceBody() {
  absl::string_view bytes = unread();
  const size_t num_unread = bytes.size();
  const BodyReader::State state = body_->Read(&bytes, &parser_->request().body);
  begin_ += num_unread - bytes.size();
  switch (state) {
    case BodyReader::State::kComplete:
      is_complete_ = true;
      return State::kComplete;
    case BodyReader::State::kTooLong:
      return Refuse(413);
    case BodyReader::State::kLongLine:
      return Refuse(431);
    case BodyReader::State::kMalformed:
      return Refuse(400);
    case BodyReader::State::kNeedsBytes:
      break;
  }
  // A client that has sent some of its body does not wait.
  return parser_->TakeExpectation() && num_unread == 0 ? State::kWantsContinue : State::kNeedsBytes;
}

bool RequestReader::is_mid_request() const {
  return !is_complete_ && (parser_->got_some() || !unread().empty());
}

bool RequestReader::keep_alive() const {
  return refused_status_ == 0 && parser_->is_header_done() && parser_->keep_alive();
}

bool RequestReader::is_http_1_0() const { return parser_->is_http_1_0(); }

HttpRequest RequestReader::TakeRequest() {
  MOED_CHECK(is_complete_, "a request is taken when it is complete");
  HttpRequest request = std::move(parser_->request());
  parser_ = std::make_unique<Parser>(limits_);
  header_bytes_ = 0;
  body_.reset();
  is_complete_ = false;
  return request;
}

}  // namespace moed
