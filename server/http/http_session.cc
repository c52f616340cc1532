#include "server/http/http_session.h"

#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "server/http/http_conversation.h"

namespace moed {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using TlsStream = asio::ssl::stream<tcp::socket>;

// After the last answer the rest of what the client sends is read, for this long at most and up to
// so much: closing a socket with unread bytes would take the answer away from it.
constexpr std::chrono::milliseconds kLingerTimeout{1'000};
constexpr size_t kMaxLingerBytes = 4 << 20;
constexpr size_t kReadBytes = 8 << 10;

std::string PeerAddress(const tcp::socket& socket) {
  error_code error;
  const tcp::endpoint peer = socket.remote_endpoint(error);
  return error ? std::string() : peer.address().to_string();
}

// Stream: tcp::socket or TlsStream. One operation of the stream is under way at a time, all of its
// handlers run on the socket's strand, and each holds the session.
template <typename Stream>
class HttpSession final : public EndableConnection,
                          public std::enable_shared_from_this<HttpSession<Stream>> {
 public:
  HttpSession(Stream stream, std::shared_ptr<asio::ssl::context> tls, std::string peer_address,
              const HttpSessionOptions* options, ConnectionRoom* room)
      : options_(*options),
        room_(room),
        tls_(std::move(tls)),
        stream_(std::move(stream)),
        timer_(stream_.get_executor()),
        conversation_(options_.limits, std::move(peer_address), &options_.handler) {}

  ~HttpSession() override {
    StopIdling();
    room_->Leave();
  }

  void Start() {
    asio::post(stream_.get_executor(), [self = this->shared_from_this()] { self->Handshake(); });
  }

  void End() override {
    asio::post(stream_.get_executor(), [self = this->shared_from_this()] {
      // It may have begun a request since it was asked.
      if (self->idle_place_.has_value()) self->Close();
    });
  }

 private:
  static constexpr bool kHasTls = std::is_same_v<Stream, TlsStream>;

  tcp::socket& socket() {
    if constexpr (kHasTls) {
      return stream_.next_layer();
    } else {
      return stream_;
    }
  }

  void Close() {
    timer_.cancel();
    ++deadline_number_;
    error_code ignored;
    socket().close(ignored);
  }

  // Replaces the deadline before.
  template <typename Action>
  void SetDeadline(std::chrono::milliseconds timeout, Action action) {
    timer_.expires_after(timeout);
    timer_.async_wait([self = this->shared_from_this(), number = ++deadline_number_,
                       action](const error_code& error) {
      if (!error && number == self->deadline_number_) action(self.get());
    });
  }
  void CloseAfter(std::chrono::milliseconds timeout) {
    SetDeadline(timeout, [](HttpSession* self) { self->Close(); });
  }

  void Handshake() {
    if constexpr (kHasTls) {
      CloseAfter(options_.request_timeout);
      stream_.async_handshake(asio::ssl::stream_base::server,
                              [self = this->shared_from_this()](const error_code& error) {
                                if (error) return self->Close();
                                self->AwaitRequest(self->options_.request_timeout);
                              });
    } else {
      AwaitRequest(options_.request_timeout);
    }
  }

  // The next request has until now not sent a byte, or only its beginning.
  void AwaitRequest(std::chrono::milliseconds patience) {
    if (conversation_.is_mid_request()) patience = options_.request_timeout;
    SetDeadline(patience, [](HttpSession* self) { self->RequestTimedOut(); });
    Read();
  }

  void RequestTimedOut() {
    if (!conversation_.is_mid_request()) return Close();
    request_timed_out_ = true;
    error_code ignored;
    socket().cancel(ignored);
  }

  void Read() {
    stream_.async_read_some(asio::buffer(input_), [self = this->shared_from_this()](
                                                      const error_code& error, size_t num_bytes) {
      self->OnRead(error, num_bytes);
    });
  }

  void OnRead(const error_code& error, size_t num_bytes) {
    if (request_timed_out_) return Write(conversation_.TimeoutReply());
    if (error) return Close();
    if (idle_place_.has_value()) {
      StopIdling();
      SetDeadline(options_.request_timeout, [](HttpSession* self) { self->RequestTimedOut(); });
    }
    conversation_.Receive({input_.data(), num_bytes});
    Answer();
  }

  void Answer() {
    std::optional<HttpConversation::Reply> reply = conversation_.NextReply();
    if (reply.has_value()) return Write(*std::move(reply));
    Read();
  }

  void Write(HttpConversation::Reply reply) {
    reply_ = std::move(reply);
    CloseAfter(options_.write_timeout);
    asio::async_write(stream_, asio::buffer(reply_.bytes),
                      [self = this->shared_from_this()](const error_code& error, size_t) {
                        if (error) return self->Close();
                        if (self->reply_.close) return self->Finish();
                        self->AfterReply();
                      });
  }

  void AfterReply() {
    std::optional<HttpConversation::Reply> next = conversation_.NextReply();
    if (next.has_value()) return Write(*std::move(next));
    reply_ = {};
    if (!conversation_.is_mid_request()) idle_place_ = room_->BeginIdle(this->weak_from_this());
    AwaitRequest(options_.idle_timeout);
  }

  void StopIdling() {
    if (idle_place_.has_value()) room_->EndIdle(*idle_place_);
    idle_place_.reset();
  }

  void Finish() {
    CloseAfter(kLingerTimeout);
    if constexpr (kHasTls) {
      stream_.async_shutdown(
          [self = this->shared_from_this()](const error_code&) { self->Close(); });
    } else {
      error_code error;
      stream_.shutdown(tcp::socket::shutdown_send, error);
      if (error) return Close();
      Linger();
    }
  }

  void Linger() {
    stream_.async_read_some(asio::buffer(input_), [self = this->shared_from_this()](
                                                      const error_code& error, size_t num_bytes) {
      self->num_lingered_ += num_bytes;
      if (error || self->num_lingered_ > kMaxLingerBytes) return self->Close();
      self->Linger();
    });
  }

  const HttpSessionOptions& options_;
  ConnectionRoom* const room_;
  const std::shared_ptr<asio::ssl::context> tls_;  // outlives the stream
  Stream stream_;
  asio::steady_timer timer_;
  uint64_t deadline_number_ = 0;
  HttpConversation conversation_;
  HttpConversation::Reply reply_;  // being written
  std::array<char, kReadBytes> input_ = {};
  size_t num_lingered_ = 0;
  bool request_timed_out_ = false;
  std::optional<ConnectionRoom::IdlePlace> idle_place_;
};

}  // namespace

void StartHttpSession(tcp::socket socket, std::shared_ptr<asio::ssl::context> tls,
                      const HttpSessionOptions* options, ConnectionRoom* room) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  std::string peer = PeerAddress(socket);
  if (tls == nullptr) {
    std::make_shared<HttpSession<tcp::socket>>(std::move(socket), nullptr, std::move(peer), options,
                                               room)
        ->Start();
  } else {
    TlsStream stream(std::move(socket), *tls);
    std::make_shared<HttpSession<TlsStream>>(std::move(stream), std::move(tls), std::move(peer),
                                             options, room)
        ->Start();
  }
}

}  // namespace moed
