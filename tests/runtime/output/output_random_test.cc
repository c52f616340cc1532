// Requests of every kind, through the processor and an outbox that is read now and then, against
// the text computed from all tokens at once.
#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "runtime/output/outbox.h"
#include "runtime/output/output_processor.h"
#include "tests/runtime/output/whole_text.h"

namespace moed {
namespace {

const std::vector<std::string>& Pieces() {
  static const auto* const pieces = new std::vector<std::string>{"a",
                                                                 "b",
                                                                 "ab",
                                                                 "ba",
                                                                 "aab",
                                                                 "\xE2\x96\x81"
                                                                 "a",
                                                                 "\xC3\xA9",
                                                                 "b\xC3\xA9",
                                                                 "<",
                                                                 "s>"};
  return *pieces;
}

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  int Between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(engine_); }
  bool OneIn(int count) { return Between(1, count) == 1; }

  int32_t Token() {
    const int kind = Between(1, 20);
    if (kind == 1) return Between(0, 2);
    if (kind == 2) return kTinyFirstPiece + static_cast<int32_t>(Pieces().size());
    if (kind > 8) return kTinyFirstPiece + Between(0, static_cast<int>(Pieces().size()) - 1);
    const std::string bytes = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xED\xA0\xFF";
    return TinyByte(
        static_cast<unsigned char>(bytes[Between(0, static_cast<int>(bytes.size()) - 1)]));
  }
  std::vector<int32_t> Tokens(int low, int high) {
    std::vector<int32_t> ids(Between(low, high));
    for (int32_t& id : ids) id = Token();
    return ids;
  }

 private:
  std::mt19937_64 engine_;
};

// Whole code points of `text`.
std::string PartOf(const std::string& text, Random& random) {
  std::vector<size_t> begins;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) begins.push_back(i);
  }
  if (begins.empty()) return "a";
  begins.push_back(text.size());
  const int last = static_cast<int>(begins.size()) - 1;
  const int begin = random.Between(0, last - 1);
  const int end = random.Between(begin + 1, std::min(begin + 5, last));
  return text.substr(begins[begin], begins[end] - begins[begin]);
}

// One continuation that the scheduler would give, and what of it must arrive.
struct Continuation {
  std::vector<int32_t> ids;
  WholeEnd end = WholeEnd::kLength;
  WholeChoice expected;
  // While it streams.
  size_t num_sent = 0;
  bool has_ended = false;  // for the scheduler
};

// What a reader has put together.
struct Received {
  std::string text;
  std::vector<int32_t> ids;
  std::vector<TokenLogprob> logprobs;
  std::vector<int16_t> experts;
  int num_messages = 0;
  std::vector<ChoiceFinish> finishes;
};

constexpr SequenceId kId = 5;
const TimePoint kStart{};

class OutputRandomTest : public ::testing::TestWithParam<int> {
 protected:
  // Draws a request with all its continuations.
  void Draw(Random& random) {
    request_ = GenerationRequest();
    request_.prompt_token_ids = random.Tokens(1, 12);
    request_.sampling.n = random.Between(1, 3);
    request_.stopping.max_tokens = 100;
    request_.stopping.min_tokens = random.OneIn(3) ? random.Between(1, 8) : 0;
    request_.stopping.include_stop = random.OneIn(3);
    request_.response.skip_special_tokens = !random.OneIn(3);
    request_.response.echo = random.OneIn(3);
    request_.response.num_logprobs = random.OneIn(2) ? random.Between(0, 20) : -1;
    request_.response.num_prompt_logprobs = random.OneIn(3) ? random.Between(0, 20) : -1;
    if (request_.response.echo && request_.response.num_logprobs >= 0) {
      request_.response.num_reported_prompt_logprobs = request_.response.num_prompt_logprobs;
      request_.response.num_prompt_logprobs =
          std::max(request_.response.num_prompt_logprobs, request_.response.num_logprobs);
    }
    request_.response.routed_experts = random.OneIn(3);
    continuations_.assign(request_.sampling.n, Continuation());
    for (Continuation& continuation : continuations_) {
      continuation.ids = random.Tokens(1, 40);
      continuation.end = static_cast<WholeEnd>(random.Between(0, 2));
    }
    if (random.OneIn(4)) continuations_[0].ids.resize(random.Between(0, 1));
    if (continuations_[0].ids.empty()) continuations_[0].end = WholeEnd::kTime;
    // Of the text itself, so that they are often found; also a part of the prompt's.
    for (int i = random.Between(0, 4); i > 0; --i) {
      std::vector<int32_t> ids = request_.prompt_token_ids;
      const auto& of = continuations_[random.Between(0, request_.sampling.n - 1)].ids;
      ids.insert(ids.end(), of.begin(), of.end());
      request_.stopping.stop_strings.push_back(
          PartOf(TextOfTokens(ids, Pieces(), request_.response.skip_special_tokens).text, random));
    }
    for (Continuation& continuation : continuations_) {
      continuation.expected = WholeChoiceOf(request_, continuation.ids, continuation.end, Pieces());
    }
  }

  static SampledToken Sample(int32_t id, int32_t num_top, float logprob) {
    SampledToken sample{0, id, logprob, {}};
    for (int32_t i = 0; i < num_top; ++i) sample.top_logprobs.push_back({i, logprob - i});
    return sample;
  }

  // Everything about the prompt, in pieces.
  void SendPrompt(OutputProcessor& processor, Random& random) {
    const std::vector<int32_t>& prompt = request_.prompt_token_ids;
    for (size_t begin = 0; begin < prompt.size();) {
      const size_t end = begin + random.Between(1, static_cast<int>(prompt.size() - begin));
      ChunkReport report;
      for (size_t i = begin; i < end; ++i) {
        if (request_.response.num_prompt_logprobs >= 0 && i + 1 < prompt.size()) {
          report.prompt_logprobs.push_back(Sample(
              prompt[i + 1], request_.response.num_prompt_logprobs, -1.0F * static_cast<float>(i)));
        }
        report.routed_experts.push_back(static_cast<int16_t>(i));
      }
      processor.Report({kId, 0, std::move(report)});
      begin = end;
    }
  }

  // The next token of a continuation, or its end by time.
  void SendNext(OutputProcessor& processor, int32_t choice) {
    Continuation& continuation = continuations_[choice];
    const size_t index = continuation.num_sent;
    if (index == continuation.ids.size()) {
      continuation.has_ended = true;
      processor.Timeout({kId, choice, kStart, kStart, {}});
      return;
    }
    if (index > 0) {
      ChunkReport report;
      report.routed_experts = {static_cast<int16_t>(1000 + index - 1)};
      processor.Report({kId, choice, std::move(report)});
    }
    SequenceToken token;
    token.id = kId;
    token.choice = choice;
    token.sample = Sample(continuation.ids[index], std::max(request_.response.num_logprobs, 0),
                          -static_cast<float>(index));
    const bool is_last = index + 1 == continuation.ids.size();
    if (is_last && continuation.end != WholeEnd::kTime) {
      const bool is_stop_token = continuation.end == WholeEnd::kStopToken;
      token.finish = {is_stop_token ? FinishReason::kStop : FinishReason::kLength,
                      is_stop_token ? continuation.ids[index] : -1};
      continuation.has_ended = true;
    }
    ++continuation.num_sent;
    processor.Token(token);
  }

  void Read(Outbox& box, int num_messages) {
    for (int i = 0; i < num_messages; ++i) {
      std::optional<OutboxMessage> message = box.Pop();
      if (!message) return;
      ASSERT_FALSE(end_) << "a message follows the end";
      end_ = message->end;
      if (!message->delta) continue;
      GenerationDelta& delta = *message->delta;
      Received& received = received_[delta.choice];
      ASSERT_TRUE(received.finishes.empty()) << "a delta follows the last";
      ASSERT_EQ(delta.prompt.has_value(), !prompt_.has_value()) << "with the first message, once";
      if (delta.prompt) prompt_ = std::move(delta.prompt);
      received.text += delta.text;
      received.ids.insert(received.ids.end(), delta.token_ids.begin(), delta.token_ids.end());
      std::move(delta.logprobs.begin(), delta.logprobs.end(),
                std::back_inserter(received.logprobs));
      received.experts.insert(received.experts.end(), delta.routed_experts.begin(),
                              delta.routed_experts.end());
      if (delta.finish) received.finishes.push_back(*delta.finish);
      ++received.num_messages;
    }
  }

  // Streams all of it. `reads_seldom`: the reader may be cut off.
  void Run(Random& random, const Tokenizer& tokenizer, size_t max_bytes) {
    received_.clear();
    prompt_.reset();
    end_.reset();
    int num_wakes = 0;
    const auto box = std::make_shared<Outbox>(max_bytes, [&] { ++num_wakes; });
    bool is_closed = false;
    OutputProcessor processor([&](const Closing& closing) {
      ASSERT_FALSE(is_closed) << "closed twice";
      is_closed = closing.cause != ClosingCause::kStopString;
    });
    processor.Open({kId, std::make_unique<RequestOutput>(request_, &tokenizer), box, kStart});
    SendPrompt(processor, random);
    const int patience = random.Between(1, 30);
    std::vector<int32_t> live(continuations_.size());
    for (size_t i = 0; i < live.size(); ++i) live[i] = static_cast<int32_t>(i);
    while (!live.empty()) {
      const int which = random.Between(0, static_cast<int>(live.size()) - 1);
      ASSERT_NO_FATAL_FAILURE(SendNext(processor, live[which]));
      if (continuations_[live[which]].has_ended) live.erase(live.begin() + which);
      if (random.OneIn(patience)) {
        ASSERT_NO_FATAL_FAILURE(Read(*box, random.Between(1, 4)));
      }
    }
    EXPECT_TRUE(is_closed);
    EXPECT_EQ(processor.num_open(), 0);
    ASSERT_NO_FATAL_FAILURE(Read(*box, 1000));
    ASSERT_TRUE(end_) << "never ended";
    EXPECT_GT(num_wakes, 0);
    EXPECT_EQ(end_->status.ok(), !box->overflowed()) << end_->status;
  }

  void ExpectPrompt() {
    const ResponseOptions& response = request_.response;
    ASSERT_TRUE(prompt_);
    EXPECT_EQ(prompt_->prompt_tokens, static_cast<int32_t>(request_.prompt_token_ids.size()));
    const int32_t num_top =
        response.num_reported_prompt_logprobs.value_or(response.num_prompt_logprobs);
    ASSERT_EQ(prompt_->logprobs.size(), num_top < 0 ? 0 : request_.prompt_token_ids.size() - 1);
    for (size_t i = 0; i < prompt_->logprobs.size(); ++i) {
      EXPECT_EQ(prompt_->logprobs[i].token_id, request_.prompt_token_ids[i + 1]);
      EXPECT_EQ(prompt_->logprobs[i].logprob, -1.0F * static_cast<float>(i));
      EXPECT_EQ(prompt_->logprobs[i].top.size(), static_cast<size_t>(num_top));
    }
  }

  void ExpectChoice(int32_t choice) {
    const ResponseOptions& response = request_.response;
    const Continuation& continuation = continuations_[choice];
    const WholeChoice& expected = continuation.expected;
    const Received& received = received_[choice];
    std::vector<int32_t> ids;
    std::string text;
    if (response.echo) {
      ids = request_.prompt_token_ids;
      const WholeText echo = TextOfTokens(ids, Pieces(), response.skip_special_tokens);
      text = echo.text.substr(0, echo.num_settled_bytes);
    }
    const size_t num_echoed = ids.size();
    ids.insert(ids.end(), continuation.ids.begin(), continuation.ids.begin() + expected.num_tokens);
    EXPECT_EQ(received.ids, ids);
    EXPECT_EQ(received.text, text + expected.text);
    ASSERT_EQ(received.finishes.size(), 1u);
    const ChoiceFinish& finish = received.finishes[0];
    EXPECT_EQ(finish.completion_tokens, static_cast<int32_t>(expected.num_tokens));
    EXPECT_EQ(finish.matched_stop_string, expected.matched_stop_string);
    FinishReason reason = FinishReason::kStop;
    if (expected.matched_stop_string.empty() && continuation.end != WholeEnd::kStopToken) {
      reason =
          continuation.end == WholeEnd::kTime ? FinishReason::kTimeLimit : FinishReason::kLength;
    }
    EXPECT_EQ(finish.reason, reason);

    const size_t num_without = response.echo ? 1 : 0;  // the prompt's first token has none
    ASSERT_EQ(received.logprobs.size(), response.num_logprobs < 0 ? 0 : ids.size() - num_without);
    for (size_t i = 0; i < received.logprobs.size(); ++i) {
      const size_t index = i + num_without;
      EXPECT_EQ(received.logprobs[i].token_id, ids[index]);
      EXPECT_EQ(received.logprobs[i].logprob, index < num_echoed
                                                  ? -static_cast<float>(index - 1)
                                                  : -static_cast<float>(index - num_echoed));
      EXPECT_EQ(received.logprobs[i].top.size(), static_cast<size_t>(response.num_logprobs));
    }

    std::vector<int16_t> experts;
    if (response.routed_experts && choice == 0) {
      for (size_t i = 0; i < request_.prompt_token_ids.size(); ++i) {
        experts.push_back(static_cast<int16_t>(i));
      }
    }
    for (size_t i = 1; response.routed_experts && i < expected.num_tokens; ++i) {
      experts.push_back(static_cast<int16_t>(1000 + i - 1));
    }
    EXPECT_EQ(received.experts, experts);
  }

  GenerationRequest request_;
  std::vector<Continuation> continuations_;
  std::map<int32_t, Received> received_;
  std::optional<PromptReport> prompt_;
  std::optional<GenerationFinish> end_;
};

constexpr int kSeedsPerCase = 250;

TEST_P(OutputRandomTest, WhatIsReadIsWhatAllTokensAtOnceGive) {
  const std::unique_ptr<Tokenizer> tokenizer = MakeTinyTokenizer(Pieces());
  int num_matched = 0;
  for (int i = 0; i < kSeedsPerCase && !HasFailure(); ++i) {
    const uint64_t seed = GetParam() * 100000 + i;
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Random random(seed);
    Draw(random);
    Run(random, *tokenizer, size_t{1} << 30);
    ExpectPrompt();
    for (int32_t choice = 0; choice < request_.sampling.n; ++choice) {
      SCOPED_TRACE(absl::StrCat("choice ", choice));
      ExpectChoice(choice);
      num_matched += continuations_[choice].expected.matched_stop_string.empty() ? 0 : 1;
    }
  }
  EXPECT_GT(num_matched, kSeedsPerCase / 4) << "stop strings are hardly ever found";
}

TEST_P(OutputRandomTest, AReaderThatIsCutOffHasReadABeginning) {
  const std::unique_ptr<Tokenizer> tokenizer = MakeTinyTokenizer(Pieces());
  int num_cut_off = 0;
  for (int i = 0; i < kSeedsPerCase && !HasFailure(); ++i) {
    const uint64_t seed = GetParam() * 100000 + 50000 + i;
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Random random(seed);
    Draw(random);
    Run(random, *tokenizer, random.Between(20, 500));
    if (end_ && end_->status.ok()) continue;
    ++num_cut_off;
    for (int32_t choice = 0; choice < request_.sampling.n; ++choice) {
      const Received received = received_[choice];
      const Continuation& continuation = continuations_[choice];
      size_t num_before = 0;
      std::string whole = continuation.expected.text;
      if (request_.response.echo) {
        const WholeText echo = TextOfTokens(request_.prompt_token_ids, Pieces(),
                                            request_.response.skip_special_tokens);
        whole.insert(0, echo.text.substr(0, echo.num_settled_bytes));
        num_before = std::min(received.ids.size(), request_.prompt_token_ids.size());
      }
      EXPECT_EQ(received.text, whole.substr(0, received.text.size()));
      ASSERT_LE(received.ids.size() - num_before, continuation.expected.num_tokens);
      EXPECT_TRUE(std::equal(received.ids.begin() + num_before, received.ids.end(),
                             continuation.ids.begin()));
    }
  }
  EXPECT_GT(num_cut_off, kSeedsPerCase / 10) << "nobody is slow enough";
}

INSTANTIATE_TEST_SUITE_P(Seeds, OutputRandomTest, ::testing::Range(1, 5));

// The demonstration model's tokenizer puts a space before a text and takes it off again.
TEST(OutputEchoTest, AnEchoIsTheTextThatWasSent) {
  const auto tokenizer = Tokenizer::Load(MOED_SOURCE_DIR "/models/demo/tokenizer.model");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (const std::string text :
       {"Once upon a time", "  two spaces", "caf\xC3\xA9 \xF0\x9F\x98\x80!"}) {
    GenerationRequest request;
    EncodeOptions encode;
    encode.add_bos = true;
    request.prompt_token_ids = (*tokenizer)->Encode(text, encode);
    request.response.echo = true;
    RequestOutput output(request, tokenizer->get());
    const int32_t next = (*tokenizer)->Encode("there").at(0);
    const GenerationDelta delta = output.Append(0, {0, next, 0, {}}, SequenceOutput::Last::kYes, 0);
    EXPECT_EQ(delta.text.substr(0, text.size()), text);
    EXPECT_EQ(delta.text.substr(text.size(), 1), " ")
        << "a word of its own follows: " << delta.text;
  }
}

}  // namespace
}  // namespace moed
