// Limits and framing, without a socket: bytes in, bytes out.
#include "server/http/http_conversation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace moed {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

constexpr HttpLimits kLimits = {.header_bytes = 1024, .body_bytes = 100};

class HttpConversationTest : public ::testing::Test {
 protected:
  // Everything that is said to `bytes`, on a connection of its own.
  std::vector<std::string> Talk(absl::string_view bytes, size_t bytes_at_a_time = 1 << 20) {
    HttpConversation conversation(kLimits, "10.1.2.3", &handler_);
    std::vector<std::string> replies;
    closed_ = false;
    while (!bytes.empty() && !closed_) {
      const absl::string_view piece = bytes.substr(0, bytes_at_a_time);
      bytes.remove_prefix(piece.size());
      conversation.Receive(piece);
      while (auto reply = conversation.NextReply()) {
        replies.push_back(reply->bytes);
        closed_ = reply->close;
        if (closed_) break;
      }
    }
    return replies;
  }

  // The status that a request alone is refused or answered with; 0: more is waited for.
  int StatusOf(absl::string_view bytes) {
    handled_.clear();
    const std::vector<std::string> replies = Talk(bytes);
    return replies.empty() ? 0 : std::stoi(replies.back().substr(9, 3));
  }
  // Refused with `status`, and no handler has seen it.
  void ExpectRefused(absl::string_view bytes, int status) {
    EXPECT_EQ(StatusOf(bytes), status) << bytes.substr(0, 200);
    EXPECT_THAT(handled_, IsEmpty()) << bytes.substr(0, 200);
    EXPECT_TRUE(closed_) << bytes.substr(0, 200);
  }

  std::vector<HttpRequest> handled_;
  bool closed_ = false;
  const HttpHandler handler_ = [this](const HttpRequest& request) {
    handled_.push_back(request);
    HttpResponse response;
    response.body = absl::StrCat("<", request.path, ">");
    return response;
  };
};

TEST_F(HttpConversationTest, ARequestReachesTheHandlerWhole) {
  EXPECT_EQ(StatusOf("POST /a%20b?q=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n"
                     "Accept: text/html\r\nAccept: */*\r\nContent-Length: 5\r\n\r\nhello"),
            200);
  ASSERT_EQ(handled_.size(), 1U);
  EXPECT_EQ(handled_[0].method, "POST");
  EXPECT_EQ(handled_[0].path, "/a b");
  EXPECT_EQ(handled_[0].query, "q=1");
  EXPECT_EQ(handled_[0].peer_address, "10.1.2.3");
  EXPECT_EQ(handled_[0].authorization, "Bearer k");
  EXPECT_EQ(handled_[0].accept, "text/html, */*");
  EXPECT_EQ(handled_[0].body, "hello");
}

TEST_F(HttpConversationTest, BytesOneByOneSayTheSame) {
  const std::string two =
      "POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n"
      "0\r\nTrailer: t\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n";
  const std::vector<std::string> whole = Talk(two);
  const std::vector<std::string> in_bytes = Talk(two, 1);
  ASSERT_EQ(whole.size(), 2U);
  ASSERT_EQ(in_bytes.size(), 2U);
  EXPECT_THAT(in_bytes[1], HasSubstr("</2>"));
  ASSERT_EQ(handled_.size(), 4U);
  EXPECT_EQ(handled_[0].body, "abcde");
  EXPECT_EQ(handled_[2].body, "abcde");
}

TEST_F(HttpConversationTest, PipelinedRequestsAreAnsweredInOrder) {
  std::string requests;
  for (int i = 0; i < 100; ++i) {
    absl::StrAppend(&requests, "GET /", i, " HTTP/1.1\r\nHost: x\r\n\r\n");
  }
  const std::vector<std::string> replies = Talk(requests, 333);
  ASSERT_EQ(replies.size(), 100U);
  for (int i = 0; i < 100; ++i) EXPECT_THAT(replies[i], HasSubstr(absl::StrCat("</", i, ">")));
}

TEST_F(HttpConversationTest, HeadIsAnsweredWithoutTheBody) {
  const std::vector<std::string> replies = Talk("HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_EQ(replies.size(), 1U);
  EXPECT_THAT(replies[0], HasSubstr("Content-Length: 4\r\n"));
  EXPECT_THAT(replies[0], ::testing::EndsWith("\r\n\r\n"));
}

TEST_F(HttpConversationTest, EveryAnswerKeepsBrowsersFromGuessingAndStoring) {
  for (const char* request : {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "nonsense\r\n\r\n"}) {
    const std::vector<std::string> replies = Talk(request);
    ASSERT_EQ(replies.size(), 1U);
    EXPECT_THAT(replies[0], HasSubstr("X-Content-Type-Options: nosniff\r\n"));
    EXPECT_THAT(replies[0], HasSubstr("Cache-Control: no-store\r\n"));
    EXPECT_THAT(replies[0], HasSubstr("Date: "));
  }
}

TEST_F(HttpConversationTest, TheConnectionIsKeptAsTheVersionSays) {
  Talk("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_FALSE(closed_);
  EXPECT_THAT(Talk("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")[0],
              HasSubstr("Connection: close\r\n"));
  EXPECT_TRUE(closed_);
  EXPECT_THAT(Talk("GET / HTTP/1.0\r\n\r\n")[0], HasSubstr("Connection: close\r\n"));
  EXPECT_TRUE(closed_);
  EXPECT_THAT(Talk("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")[0],
              HasSubstr("Connection: keep-alive\r\n"));
  EXPECT_FALSE(closed_);
}

TEST_F(HttpConversationTest, AClientThatWaitsForItIsToldToGoOn) {
  HttpConversation conversation(kLimits, "", &handler_);
  conversation.Receive(
      "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  const auto go_on = conversation.NextReply();
  ASSERT_TRUE(go_on.has_value());
  EXPECT_THAT(go_on->bytes, StartsWith("HTTP/1.1 100 "));
  EXPECT_FALSE(go_on->close);
  EXPECT_FALSE(conversation.NextReply().has_value());
  conversation.Receive("ab");
  EXPECT_THAT(conversation.NextReply()->bytes, StartsWith("HTTP/1.1 200 "));
}

TEST_F(HttpConversationTest, MalformedRequestsAreRefused) {
  for (const char* request :
       {"nonsense\r\n\r\n", "GET\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/2.0\r\n\r\n",
        "GET / HTTP/0.9\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET relative HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT host:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n", "GET / HTTP/1.1\nHost: x\n\n\r\n",
        "\x16\x03\x01\x02\x01 TLS hello\r\n\r\n"}) {
    ExpectRefused(request, 400);
  }
}

TEST_F(HttpConversationTest, OneHostIsNamed) {
  ExpectRefused("GET / HTTP/1.1\r\n\r\n", 400);
  ExpectRefused("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400);
}

TEST_F(HttpConversationTest, AKeyGivenTwiceIsRefused) {
  ExpectRefused(
      "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
      400);
}

// Two readers of one connection must not disagree about where a request ends.
TEST_F(HttpConversationTest, NoDoubtIsLeftAboutTheLength) {
  const std::string start = "POST / HTTP/1.1\r\nHost: x\r\n";
  for (const char* fields : {"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
                             "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
                             "Content-Length: 3\r\nContent-Length: 3\r\n",
                             "Content-Length: 3\r\nContent-Length: 4\r\n",
                             "Content-Length: 3, 3\r\n",
                             "Content-Length: -3\r\n",
                             "Content-Length: +3\r\n",
                             "Content-Length: 0x3\r\n",
                             "Content-Length: \r\n",
                             "Content-Length: 3 3\r\n",
                             "Content-Length: 99999999999999999999999\r\n",
                             "Transfer-Encoding: xchunked\r\n",
                             "Transfer-Encoding: gzip\r\n",
                             "Transfer-Encoding: gzip, chunked\r\n",
                             "Transfer-Encoding: chunked, chunked\r\n",
                             "Transfer-Encoding: identity\r\n",
                             "Transfer-Encoding: \r\n",
                             "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                             "Transfer-Encoding: chunked;q=1\r\n",
                             "Transfer-Encoding:\x0b"
                             "chunked\r\n",
                             "Transfer-Encoding\r\n : chunked\r\n"}) {
    ExpectRefused(absl::StrCat(start, fields, "\r\n3\r\nabc\r\n0\r\n\r\n"), 400);
  }
  ExpectRefused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
}

TEST_F(HttpConversationTest, MalformedChunksAreRefused) {
  const std::string start = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const char* body :
       {"zz\r\nabc\r\n0\r\n\r\n", "\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "-1\r\na\r\n0\r\n\r\n",
        "fffffffffffffffff\r\na\r\n", "3\r\nabc\r\n0\r\nbad trailer\r\n\r\n"}) {
    ExpectRefused(absl::StrCat(start, body), 400);
  }
}

// Beast's own reader of chunks asserts on the second.
TEST_F(HttpConversationTest, ALastChunkMayComeByteByByte) {
  const std::string start = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_THAT(Talk(absl::StrCat(start, "0\r\nA: b\r\n\r\n"), 1)[0], StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(Talk(absl::StrCat(start, "0\r\nx\x12\r\n"), 1)[0], StartsWith("HTTP/1.1 400 "));
}

TEST_F(HttpConversationTest, ATrailerChangesNothing) {
  EXPECT_EQ(StatusOf("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
                     "Authorization: Bearer k\r\nHost: y\r\n\r\n"),
            200);
  EXPECT_FALSE(handled_[0].authorization.has_value());
}

TEST_F(HttpConversationTest, TheHeaderHasALimit) {
  const auto request = [](size_t bytes) {
    const std::string start = "GET / HTTP/1.1\r\nHost: x\r\nA: ";
    return start + std::string(bytes - start.size() - 4, 'a') + "\r\n\r\n";
  };
  EXPECT_EQ(StatusOf(request(kLimits.header_bytes)), 200);
  ExpectRefused(request(kLimits.header_bytes + 1), 431);
  ExpectRefused(request(1 << 20), 431);
  ExpectRefused(absl::StrCat("GET /", std::string(1 << 20, 'a')), 431);
}

// The parser's own limit is on what it is shown at a time: it takes a field as soon as it sees the
// first byte of the next.
TEST_F(HttpConversationTest, TheHeaderHasItsLimitLineByLineToo) {
  HttpConversation conversation(kLimits, "", &handler_);
  conversation.Receive("GET / HTTP/1.1\r\nF");
  EXPECT_FALSE(conversation.NextReply().has_value());
  int num_lines = 0;
  while (num_lines < 1000) {
    conversation.Receive("ield: value\r\nF");
    const auto reply = conversation.NextReply();
    if (!reply.has_value()) {
      ++num_lines;
      continue;
    }
    EXPECT_THAT(reply->bytes, StartsWith("HTTP/1.1 431 "));
    EXPECT_TRUE(reply->close);
    break;
  }
  EXPECT_LE(num_lines, static_cast<int>(kLimits.header_bytes / 14));
}

TEST_F(HttpConversationTest, TheBodyHasALimit) {
  const auto announced = [](size_t bytes) {
    return absl::StrCat("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ", bytes, "\r\n\r\n",
                        std::string(bytes, 'a'));
  };
  EXPECT_EQ(StatusOf(announced(kLimits.body_bytes)), 200);
  ExpectRefused(announced(kLimits.body_bytes + 1), 413);
  const auto in_chunks = [](int num_chunks) {
    std::string request = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i < num_chunks; ++i) request += "a\r\n0123456789\r\n";
    return request + "0\r\n\r\n";
  };
  EXPECT_EQ(StatusOf(in_chunks(10)), 200);
  ExpectRefused(in_chunks(11), 413);
}

TEST_F(HttpConversationTest, AnAnnouncedBodyTooLongIsRefusedBeforeItComes) {
  ExpectRefused("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n", 413);
  ExpectRefused("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n", 413);
}

TEST_F(HttpConversationTest, FramingOfChunksHasALimit) {
  HttpLimits limits = kLimits;
  limits.body_bytes = 1 << 20;
  HttpConversation conversation(limits, "", &handler_);
  conversation.Receive("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  int num_chunks = 0;
  std::optional<HttpConversation::Reply> reply;
  while (num_chunks < 100'000 && !reply.has_value()) {
    ++num_chunks;
    conversation.Receive("1\r\nx\r\n");
    reply = conversation.NextReply();
  }
  ASSERT_TRUE(reply.has_value());
  EXPECT_THAT(reply->bytes, StartsWith("HTTP/1.1 413 "));
  EXPECT_LT(num_chunks, 1'000);
}

TEST_F(HttpConversationTest, AChunksHeaderAndTheTrailerHaveTheHeadersLimit) {
  const std::string start = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  ExpectRefused(absl::StrCat(start, "1;", std::string(2000, 'a')), 431);
  ExpectRefused(absl::StrCat(start, "0\r\nA: ", std::string(2000, 'a')), 431);
}

TEST_F(HttpConversationTest, NothingIsReadAfterARefusal) {
  EXPECT_THAT(Talk("nonsense\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"), ::testing::SizeIs(1));
  EXPECT_THAT(handled_, IsEmpty());
}

TEST_F(HttpConversationTest, ErrorsRepeatNothingOfTheRequest) {
  EXPECT_THAT(Talk("GET /%zzsecret HTTP/1.1\r\nHost: x\r\n\r\n")[0], Not(HasSubstr("secret")));
}

}  // namespace
}  // namespace moed
