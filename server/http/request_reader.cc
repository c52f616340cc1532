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

// Keeps what a handler needs and refuses what leaves a doubt about where a request ends: Beast lets
// pass codings that it does not know, and the same length said twice.
class RequestReader::Parser final : public http::basic_parser<true> {
 public:
  explicit Parser(const HttpLimits& limits) {
    header_limit(static_cast<uint32_t>(limits.header_bytes));
    body_limit(limits.body_bytes);
  }

  const HttpRequest& request() const { return request_; }
  HttpRequest&& TakeRequest() { return std::move(request_); }
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
    // A trailer must not change what has been decided by the header.
    if (header_ended_) return;
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
    header_ended_ = true;
    if (num_hosts_ == 0 && !is_http_1_0_) error = http::error::bad_field;
  }

  // The length that is announced is not allocated: it may never come.
  void on_body_init_impl(const boost::optional<uint64_t>& /*length*/,
                         error_code& /*error*/) override {}
  size_t on_body_impl(boost::beast::string_view bytes, error_code& /*error*/) override {
    request_.body.append(bytes.data(), bytes.size());
    return bytes.size();
  }
  void on_chunk_header_impl(uint64_t /*size*/, boost::beast::string_view /*extensions*/,
                            error_code& /*error*/) override {}
  size_t on_chunk_body_impl(uint64_t /*remaining*/, boost::beast::string_view bytes,
                            error_code& /*error*/) override {
    request_.body.append(bytes.data(), bytes.size());
    return bytes.size();
  }
  void on_finish_impl(error_code& /*error*/) override {}

  HttpRequest request_;
  bool header_ended_ = false;
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

// The parser goes on by one piece at a time (it is not `eager`): Beast 1.74 forgets an error found
// at the end of the header where more bytes follow.
RequestReader::State RequestReader::Advance() {
  if (refused_status_ != 0) return State::kRefused;
  while (!parser_->is_done()) {
    const absl::string_view bytes = unread();
    if (bytes.empty()) break;
    const bool in_header = !parser_->is_header_done();
    error_code error;
    const size_t num_parsed = parser_->put(boost::asio::buffer(bytes.data(), bytes.size()), error);
    begin_ += num_parsed;
    (in_header ? header_bytes_ : body_bytes_) += num_parsed;
    if (error == http::error::header_limit) return Refuse(431);
    if (error == http::error::body_limit) return Refuse(413);
    if (error && error != http::error::need_more) return Refuse(400);
    // Beast's own limit is on what it sees at a time, not on all fields together.
    const size_t waiting = error ? unread().size() : 0;
    if ((in_header ? header_bytes_ : 0) + waiting > limits_.header_bytes) return Refuse(431);
    const size_t payload = parser_->request().body.size();
    if (body_bytes_ > 2 * payload + limits_.header_bytes) return Refuse(413);
    if (error) break;
  }
  if (parser_->is_done()) return State::kComplete;
  if (parser_->is_header_done() && parser_->TakeExpectation() && body_bytes_ == 0) {
    return State::kWantsContinue;
  }
  return State::kNeedsBytes;
}

bool RequestReader::is_mid_request() const {
  return !parser_->is_done() && (parser_->got_some() || !unread().empty());
}

bool RequestReader::keep_alive() const {
  return refused_status_ == 0 && parser_->is_header_done() && parser_->keep_alive();
}

bool RequestReader::is_http_1_0() const { return parser_->is_http_1_0(); }

HttpRequest RequestReader::TakeRequest() {
  MOED_CHECK(parser_->is_done(), "a request is taken when it is complete");
  HttpRequest request = parser_->TakeRequest();
  parser_ = std::make_unique<Parser>(limits_);
  header_bytes_ = 0;
  body_bytes_ = 0;
  return request;
}

}  // namespace moed
