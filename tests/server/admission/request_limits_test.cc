// Every limit at its greatest value, which passes, and one beyond, which is refused with the
// field's name.
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"
#include "server/admission/request_validator.h"
#include "server/errors/error_details.h"
#include "tests/server/support/served_models.h"

namespace moed {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kMaxInt = std::numeric_limits<int32_t>::max();
constexpr int32_t kMinInt = std::numeric_limits<int32_t>::min();

using Edit = std::function<void(v1::GenerateRequest&)>;

struct Limit {
  std::string field;  // "" where the request is fine
  Edit edit;
};

Edit Sampling(const std::function<void(v1::SamplingParams&)>& edit) {
  return [edit](v1::GenerateRequest& request) { edit(*request.mutable_sampling()); };
}
Edit Stopping(const std::function<void(v1::StoppingParams&)>& edit) {
  return [edit](v1::GenerateRequest& request) { edit(*request.mutable_stopping()); };
}
Edit Temperature(float value) {
  return Sampling([value](v1::SamplingParams& s) { s.set_temperature(value); });
}
Edit TopK(int32_t value) {
  return Sampling([value](v1::SamplingParams& s) { s.set_top_k(value); });
}
Edit TopP(float value) {
  return Sampling([value](v1::SamplingParams& s) { s.set_top_p(value); });
}
Edit MinP(float value) {
  return Sampling([value](v1::SamplingParams& s) { s.set_min_p(value); });
}
Edit N(int32_t value) {
  return Sampling([value](v1::SamplingParams& s) { s.set_n(value); });
}
Edit TypicalP(float value) {
  return Sampling([value](v1::SamplingParams& s) { s.set_typical_p(value); });
}
Edit Presence(float value) {
  return Sampling([value](v1::SamplingParams& s) { s.set_presence_penalty(value); });
}
Edit Frequency(float value) {
  return Sampling([value](v1::SamplingParams& s) { s.set_frequency_penalty(value); });
}
Edit Repetition(float value) {
  return Sampling([value](v1::SamplingParams& s) { s.set_repetition_penalty(value); });
}
// The ids [0, count), and `last`, with the bias.
Edit LogitBias(uint32_t count, float value, uint32_t last = 0) {
  return Sampling([=](v1::SamplingParams& s) {
    for (uint32_t id = 0; id < count; ++id) (*s.mutable_logit_bias())[id] = value;
    (*s.mutable_logit_bias())[last] = value;
  });
}
Edit Allowed(int count, uint32_t id) {
  return Sampling([=](v1::SamplingParams& s) {
    for (int i = 0; i < count; ++i) s.add_allowed_token_ids(id);
  });
}
Edit BadWords(int count, const std::string& text) {
  return Sampling([=](v1::SamplingParams& s) {
    for (int i = 0; i < count; ++i) s.add_bad_words(text);
  });
}
Edit TimeLimit(int64_t value) {
  return Stopping([value](v1::StoppingParams& s) { s.set_time_limit_ms(value); });
}
Edit PromptLogprobs(int32_t value) {
  return [value](v1::GenerateRequest& r) { r.mutable_response()->set_prompt_logprobs(value); };
}
Edit ExpertsPerToken(int32_t value) {
  return [value](v1::GenerateRequest& r) { r.mutable_moe()->set_experts_per_token(value); };
}
Edit Priority(int32_t value) {
  return [value](v1::GenerateRequest& r) { r.mutable_scheduling()->set_priority(value); };
}
Edit HomeRank(int32_t value) {
  return [value](v1::GenerateRequest& r) { r.mutable_scheduling()->set_home_rank(value); };
}
Edit Salt(size_t bytes) {
  return [bytes](v1::GenerateRequest& r) { r.mutable_cache()->set_salt(std::string(bytes, 's')); };
}
Edit MaxTokens(int32_t value) {
  return Stopping([value](v1::StoppingParams& s) { s.set_max_tokens(value); });
}
Edit MinTokens(int32_t value, int32_t max_tokens) {
  return Stopping([=](v1::StoppingParams& s) {
    s.set_min_tokens(value);
    s.set_max_tokens(max_tokens);
  });
}
Edit StopStrings(int count, size_t bytes) {
  return Stopping([=](v1::StoppingParams& s) {
    for (int i = 0; i < count; ++i) s.add_stop_strings(std::string(bytes, 'x'));
  });
}
Edit StopTokens(int count, uint32_t id) {
  return Stopping([=](v1::StoppingParams& s) {
    for (int i = 0; i < count; ++i) s.add_stop_token_ids(id);
  });
}
Edit Logprobs(int32_t value) {
  return [value](v1::GenerateRequest& r) { r.mutable_response()->set_logprobs(value); };
}
Edit RequestId(const std::string& id) {
  return [id](v1::GenerateRequest& r) { r.set_request_id(id); };
}
Edit PromptIds(const std::vector<uint32_t>& ids) {
  return [ids](v1::GenerateRequest& r) {
    r.mutable_token_ids()->mutable_ids()->Assign(ids.begin(), ids.end());
  };
}
Edit Text(const std::string& text) {
  return [text](v1::GenerateRequest& r) { r.set_text(text); };
}
Edit Chat(int messages) {
  return [messages](v1::GenerateRequest& r) {
    v1::ChatPrompt* chat = r.mutable_chat();
    for (int i = 0; i < messages; ++i) chat->add_messages()->set_role("user");
  };
}

std::vector<Limit> Limits() {
  return {
      {"", Temperature(0)},
      {"", Temperature(100)},
      {"sampling.temperature", Temperature(std::nextafter(100.0F, 200.0F))},
      {"sampling.temperature", Temperature(-0.5F)},
      {"sampling.temperature", Temperature(kNan)},
      {"sampling.temperature", Temperature(kInfinity)},
      {"sampling.temperature", Temperature(-kInfinity)},
      {"", TopK(0)},
      {"", TopK(kMaxInt)},
      {"sampling.top_k", TopK(-1)},
      {"sampling.top_k", TopK(kMinInt)},
      {"", TopP(1)},
      {"", TopP(1e-6F)},
      {"sampling.top_p", TopP(0)},
      {"sampling.top_p", TopP(1.1F)},
      {"sampling.top_p", TopP(-0.1F)},
      {"sampling.top_p", TopP(kNan)},
      {"", MinP(0)},
      {"", MinP(1)},
      {"sampling.min_p", MinP(1.0001F)},
      {"sampling.min_p", MinP(-0.0001F)},
      {"sampling.min_p", MinP(kNan)},
      {"", N(1)},
      {"sampling.n", N(0)},
      {"sampling.n", N(-1)},
      {"sampling.n", N(17)},
      {"sampling.n", N(1000000000)},
      {"", N(16)},
      {"", TypicalP(1)},
      {"", TypicalP(1e-6F)},
      {"sampling.typical_p", TypicalP(0)},
      {"sampling.typical_p", TypicalP(1.0001F)},
      {"sampling.typical_p", TypicalP(kNan)},
      {"", Presence(2)},
      {"", Presence(-2)},
      {"sampling.presence_penalty", Presence(2.0001F)},
      {"sampling.presence_penalty", Presence(-2.0001F)},
      {"sampling.presence_penalty", Presence(kNan)},
      {"", Frequency(2)},
      {"", Frequency(-2)},
      {"sampling.frequency_penalty", Frequency(2.0001F)},
      {"sampling.frequency_penalty", Frequency(-2.0001F)},
      {"sampling.frequency_penalty", Frequency(kInfinity)},
      {"", Repetition(10)},
      {"", Repetition(1e-6F)},
      {"sampling.repetition_penalty", Repetition(0)},
      {"sampling.repetition_penalty", Repetition(-1)},
      {"sampling.repetition_penalty", Repetition(10.001F)},
      {"sampling.repetition_penalty", Repetition(kNan)},
      {"", LogitBias(1, 100)},
      {"", LogitBias(1, -100)},
      {"sampling.logit_bias[0]", LogitBias(1, 100.01F)},
      {"sampling.logit_bias[0]", LogitBias(1, -100.01F)},
      {"sampling.logit_bias[0]", LogitBias(1, kNan)},
      {"sampling.logit_bias[0]", LogitBias(1, -kInfinity)},
      {"", LogitBias(0, 1, kTestVocab - 1)},
      {"sampling.logit_bias", LogitBias(0, 1, kTestVocab)},
      {"sampling.logit_bias", LogitBias(0, 1, 0xffffffffU)},
      {"sampling.logit_bias has 1025", LogitBias(1025, 1)},
      {"", Allowed(kTestVocab, kTestVocab - 1)},
      {"sampling.allowed_token_ids", Allowed(kTestVocab + 1, 0)},
      {"sampling.allowed_token_ids[0]", Allowed(1, kTestVocab)},
      {"sampling.allowed_token_ids[0]", Allowed(1, 0xffffffffU)},
      {"", BadWords(64, std::string(256, 'x'))},
      {"sampling.bad_words", BadWords(65, "x")},
      {"sampling.bad_words[0]", BadWords(1, std::string(257, 'x'))},
      {"sampling.bad_words[0]", BadWords(1, "")},
      {"sampling.bad_words[0]", BadWords(1, "   ")},
      {"", TimeLimit(1)},
      {"", TimeLimit(86400000)},
      {"stopping.time_limit_ms", TimeLimit(0)},
      {"stopping.time_limit_ms", TimeLimit(-1)},
      {"stopping.time_limit_ms", TimeLimit(86400001)},
      {"stopping.time_limit_ms", TimeLimit(std::numeric_limits<int64_t>::max())},
      {"", PromptLogprobs(0)},
      {"", PromptLogprobs(20)},
      {"response.prompt_logprobs", PromptLogprobs(21)},
      {"response.prompt_logprobs", PromptLogprobs(-1)},
      {"", ExpertsPerToken(1)},
      {"", ExpertsPerToken(2)},
      {"moe.experts_per_token", ExpertsPerToken(0)},
      {"moe.experts_per_token", ExpertsPerToken(3)},
      {"moe.experts_per_token", ExpertsPerToken(-1)},
      {"", Priority(100)},
      {"", Priority(-100)},
      {"scheduling.priority", Priority(101)},
      {"scheduling.priority", Priority(-101)},
      {"", HomeRank(0)},
      {"scheduling.home_rank", HomeRank(1)},
      {"scheduling.home_rank", HomeRank(-1)},
      {"", Salt(256)},
      {"cache.salt", Salt(257)},
      {"", MaxTokens(1)},
      {"", MaxTokens(kMaxInt)},
      {"stopping.max_tokens", MaxTokens(0)},
      {"stopping.max_tokens", MaxTokens(-1)},
      {"stopping.max_tokens", MaxTokens(kMinInt)},
      {"", MinTokens(5, 5)},
      {"stopping.min_tokens", MinTokens(6, 5)},
      {"stopping.min_tokens", MinTokens(-1, 5)},
      {"", StopStrings(16, 256)},
      {"stopping.stop_strings", StopStrings(17, 1)},
      {"stopping.stop_strings", StopStrings(100000, 1)},
      {"stopping.stop_strings[0]", StopStrings(1, 257)},
      {"stopping.stop_strings[0]", StopStrings(1, 1 << 20)},
      {"stopping.stop_strings[0]", StopStrings(1, 0)},
      {"", StopTokens(64, kTestVocab - 1)},
      {"stopping.stop_token_ids", StopTokens(65, 0)},
      {"stopping.stop_token_ids[0]", StopTokens(1, kTestVocab)},
      {"stopping.stop_token_ids[0]", StopTokens(1, 0xffffffffU)},
      {"", Logprobs(0)},
      {"", Logprobs(20)},
      {"response.logprobs", Logprobs(21)},
      {"response.logprobs", Logprobs(-1)},
      {"", RequestId(std::string(128, '~'))},
      {"request_id", RequestId(std::string(129, '~'))},
      {"request_id", RequestId("a b")},
      {"request_id", RequestId("a\n")},
      {"request_id", RequestId("\x7f")},
      {"request_id", RequestId("\xC3\xA4")},
      {"", PromptIds({kTestVocab - 1})},
      {"token_ids.ids[1]", PromptIds({0, kTestVocab})},
      {"token_ids.ids[0]", PromptIds({0xffffffffU})},
      {"token_ids.ids", PromptIds({})},
      {"", PromptIds(std::vector<uint32_t>(kTestContext, 3))},
      {"token_ids.ids", PromptIds(std::vector<uint32_t>(kTestContext + 1, 3))},
      {"text", Text("")},
      {"", Text(std::string(kTestContext - 1, 'x'))},  // with <s>
      {"text", Text(std::string(kTestContext, 'x'))},
      {"chat.messages", Chat(1025)},
      {"chat.messages", Chat(0)},
  };
}

// "": none is named.
std::string FieldAtFault(const absl::Status& status) {
  google::rpc::BadRequest detail;
  const google::rpc::Status rpc_status = ToRpcStatus(status);
  for (const google::protobuf::Any& any : rpc_status.details()) {
    if (any.UnpackTo(&detail)) return detail.field_violations(0).field();
  }
  return "";
}

TEST(RequestLimitsTest, EachLimitHoldsAtItsGreatestValueAndNotBeyond) {
  const auto model = MakeServedModel();
  const RequestValidator validator({}, [] { return 7; });
  const std::vector<Limit> limits = Limits();
  for (size_t i = 0; i < limits.size(); ++i) {
    v1::GenerateRequest request;
    request.mutable_token_ids()->add_ids(3);
    limits[i].edit(request);
    const absl::Status status = validator.Admit(request, *model).status();
    const std::string what = "row " + std::to_string(i) + " " + limits[i].field;
    if (limits[i].field.empty()) {
      EXPECT_TRUE(status.ok()) << what << ": " << status;
      continue;
    }
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << what << ": " << status;
    const std::string start = std::string(status.message()).substr(0, limits[i].field.size());
    EXPECT_EQ(start, limits[i].field) << what;
    // And for programs, without what else the text says.
    const std::string field = FieldAtFault(status);
    EXPECT_EQ(field.substr(0, field.find(' ')),
              limits[i].field.substr(0, limits[i].field.find(' ')))
        << what;
  }
}

TEST(RequestLimitsTest, AChatHasUpToItsLimitOfMessages) {
  const auto model = MakeServedModel();
  const RequestLimits limits;
  v1::ChatPrompt chat;
  for (int i = 0; i < limits.chat_messages - 1; ++i) {
    v1::ChatMessage* message = chat.add_messages();
    message->set_role(i % 2 == 0 ? "user" : "assistant");
    message->set_content("x");
  }
  v1::ChatMessage* system = chat.add_messages();
  system->set_role("system");
  system->set_content("x");
  for (int i = chat.messages_size() - 1; i > 0; --i)
    chat.mutable_messages()->SwapElements(i, i - 1);
  ASSERT_EQ(chat.messages_size(), 1024);
  const auto rendered = RenderChatPrompt(chat, *model, limits);
  EXPECT_TRUE(rendered.ok()) << rendered.status();
}

TEST(RequestLimitsTest, FollowsTheLimitsItIsGiven) {
  const auto model = MakeServedModel();
  RequestLimits limits;
  limits.stop_strings = 1;
  limits.stop_string_bytes = 2;
  limits.stop_token_ids = 3;
  limits.n = 2;
  limits.logit_bias = 4;
  limits.bad_words = 1;
  limits.bad_word_bytes = 2;
  limits.logprobs = 5;
  limits.experts_per_token = 3;
  const RequestValidator validator(limits, [] { return 7; });
  const auto admits = [&](const Edit& edit) {
    v1::GenerateRequest request;
    request.mutable_token_ids()->add_ids(3);
    edit(request);
    return validator.Admit(request, *model).ok();
  };
  EXPECT_TRUE(admits(StopStrings(1, 2)));
  EXPECT_FALSE(admits(StopStrings(2, 2)));
  EXPECT_FALSE(admits(StopStrings(1, 3)));
  EXPECT_TRUE(admits(StopTokens(3, 1)));
  EXPECT_FALSE(admits(StopTokens(4, 1)));
  EXPECT_TRUE(admits(N(2)));
  EXPECT_FALSE(admits(N(3)));
  EXPECT_TRUE(admits(LogitBias(4, 1)));
  EXPECT_FALSE(admits(LogitBias(5, 1)));
  EXPECT_TRUE(admits(BadWords(1, "ab")));
  EXPECT_FALSE(admits(BadWords(2, "a")));
  EXPECT_FALSE(admits(BadWords(1, "aba")));
  EXPECT_TRUE(admits(PromptLogprobs(5)));
  EXPECT_FALSE(admits(PromptLogprobs(6)));
  EXPECT_FALSE(admits(Logprobs(6)));
  EXPECT_TRUE(admits(ExpertsPerToken(3)));
  EXPECT_FALSE(admits(ExpertsPerToken(4)));
}

}  // namespace
}  // namespace moed
