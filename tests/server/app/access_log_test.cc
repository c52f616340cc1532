#include "server/app/access_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace moed {
namespace {

using nlohmann::ordered_json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::string LineOf(const RequestRecord& record, const char* format = "json",
                   const char* level = "info") {
  int ends[2];
  EXPECT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  {
    Log log(format, level, ends[1]);
    AccessLog(&log).OnEnd(record);
  }
  std::string text(1 << 16, '\0');
  const ssize_t size = read(ends[0], text.data(), text.size());
  text.resize(size > 0 ? static_cast<size_t>(size) : 0);
  close(ends[0]);
  close(ends[1]);
  return text;
}

std::vector<std::string> Keys(const ordered_json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

TEST(AccessLogTest, AServedRequestHasAllFields) {
  RequestRecord record;
  record.method = "StreamGenerate";
  record.request_id = "r-1";
  record.client = "team-a";
  record.admitted = true;
  record.finish_reason = "stop";
  record.num_choices = 2;
  record.prompt_tokens = 3;
  record.cached_tokens = 4;
  record.completion_tokens = 5;
  record.preemptions = 6;
  record.queue_seconds = 0.25;
  record.first_token_seconds = 0.5;
  record.total_seconds = 1.0 / 3;
  const ordered_json line = ordered_json::parse(LineOf(record));
  EXPECT_THAT(Keys(line), ElementsAre("time", "level", "message", "method", "request_id", "client",
                                      "code", "finish_reason", "choices", "prompt_tokens",
                                      "cached_tokens", "completion_tokens", "preemptions",
                                      "queue_seconds", "first_token_seconds", "total_seconds"));
  EXPECT_EQ(line["message"], "request");
  EXPECT_EQ(line["method"], "StreamGenerate");
  EXPECT_EQ(line["code"], "OK");
  EXPECT_EQ(line["finish_reason"], "stop");
  EXPECT_EQ(line["completion_tokens"], 5);
  EXPECT_EQ(line["total_seconds"], 0.333333);
}

TEST(AccessLogTest, ARefusedRequestHasCodeAndReasonButNotItsText) {
  RequestRecord record;
  record.method = "Generate";
  record.client = "127.0.0.1";
  record.status = absl::ResourceExhaustedError("the prompt was: hello");
  record.reason = "QUEUE_FULL";
  record.client_cancelled = true;
  record.slow_reader = true;
  const std::string text = LineOf(record);
  const ordered_json line = ordered_json::parse(text);
  EXPECT_THAT(Keys(line),
              ElementsAre("time", "level", "message", "method", "client", "code", "reason",
                          "total_seconds", "client_cancelled", "slow_reader"));
  EXPECT_EQ(line["code"], "RESOURCE_EXHAUSTED");
  EXPECT_EQ(line["reason"], "QUEUE_FULL");
  EXPECT_THAT(text, Not(HasSubstr("hello")));
}

TEST(AccessLogTest, ControlCharactersAreEscaped) {
  RequestRecord record;
  record.method = "Generate";
  record.request_id = "a\nb\x1b[2J";
  EXPECT_THAT(LineOf(record, "text"), HasSubstr("request_id=\"a\\nb\\x1b[2J\""));
  EXPECT_EQ(ordered_json::parse(LineOf(record))["request_id"], "a\nb\x1b[2J");
}

TEST(AccessLogTest, AHigherLevelLeavesItOut) {
  EXPECT_THAT(LineOf(RequestRecord(), "json", "warning"), IsEmpty());
}

}  // namespace
}  // namespace moed
