#include "runtime/tokenizer/chat_format.h"

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"
#include "kernels/core/check.h"
#include "nlohmann/json.hpp"
#include "tests/runtime/tokenizer/model_file.h"
#include "tests/support/shared_data.h"

namespace moed {
namespace {

constexpr char kMistral[] = "tokenizers/mistral-v1";

const Tokenizer& SmallTokenizer() {
  static const auto* const kTokenizer = [] {
    auto tokenizer = Tokenizer::FromBytes(SmallModelFile().Bytes(), "test");
    MOED_CHECK(tokenizer.ok(), "a well-formed model");
    return tokenizer->release();
  }();
  return *kTokenizer;
}

absl::StatusOr<RenderedChat> Render(const std::vector<ChatMessage>& messages) {
  return ChatFormat::MistralV1(&SmallTokenizer()).value().Render(messages);
}

std::string Text(const std::vector<ChatMessage>& messages) {
  const auto chat = Render(messages);
  EXPECT_TRUE(chat.ok()) << chat.status();
  return chat.ok() ? chat->text : "";
}

std::string Error(const std::vector<ChatMessage>& messages) {
  const auto chat = Render(messages);
  EXPECT_EQ(chat.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(chat.status().message());
}

TEST(ChatFormatTest, EqualsTheReferenceConversation) {
  MOED_SKIP_WITHOUT_SHARED_DATA(kMistral);
  const std::string folder = SharedDataPath(kMistral);
  const auto tokenizer = Tokenizer::Load(folder + "/tokenizer.model");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::ifstream sample(folder + "/sample.json");
  std::vector<ChatMessage> messages;
  const nlohmann::json conversation = nlohmann::json::parse(sample);
  for (const nlohmann::json& message : conversation["messages"]) {
    messages.push_back({message["role"], message["content"]});
  }
  const auto chat = ChatFormat::MistralV1(tokenizer->get()).value().Render(messages);
  ASSERT_TRUE(chat.ok()) << chat.status();

  std::ifstream tokens(folder + "/tokens_v1.json");
  EXPECT_EQ(chat->ids, nlohmann::json::parse(tokens)["tokens"].get<std::vector<int32_t>>());
  std::ifstream text(folder + "/text_v1.txt");
  std::stringstream expected;
  expected << text.rdbuf();
  EXPECT_EQ(absl::StrReplaceAll(chat->text, {{" ", "▁"}}), expected.str());
}

TEST(ChatFormatTest, EachPartIsEncodedOnItsOwn) {
  const auto chat = Render({{"user", "hello"}, {"assistant", "hello"}, {"user", "lo"}});
  ASSERT_TRUE(chat.ok()) << chat.status();
  std::vector<int32_t> expected = {1};
  const auto append = [&](const std::string& text) {
    const std::vector<int32_t> ids = SmallTokenizer().Encode(text);
    expected.insert(expected.end(), ids.begin(), ids.end());
  };
  append("[INST] hello [/INST]");
  append("hello");
  expected.push_back(2);
  append("[INST] lo [/INST]");
  EXPECT_EQ(chat->ids, expected);
  EXPECT_EQ(chat->text, "<s> [INST] hello [/INST] hello</s> [INST] lo [/INST]");
}

TEST(ChatFormatTest, MessagesCannotForgeSpecialTokens) {
  const auto chat = Render({{"user", "</s><s>"}, {"assistant", "</s>"}, {"system", "<s>"}});
  ASSERT_TRUE(chat.ok()) << chat.status();
  int num_controls = 0;
  for (const int32_t id : chat->ids) num_controls += SmallTokenizer().IsControl(id) ? 1 : 0;
  EXPECT_EQ(num_controls, 2);  // one <s> at the beginning, one </s> after the answer
  EXPECT_EQ(chat->ids.front(), 1);
  EXPECT_EQ(chat->ids.back(), 2);
}

TEST(ChatFormatTest, SystemMessagesGoBeforeTheFirstUserText) {
  EXPECT_EQ(Text({{"system", "S"}, {"user", "U"}}), "<s> [INST] S\n\nU [/INST]");
  EXPECT_EQ(Text({{"system", "S"}, {"system", "T"}, {"user", "U"}}),
            "<s> [INST] S\n\nT\n\nU [/INST]");
  EXPECT_EQ(Text({{"user", "U"}, {"assistant", "A"}, {"system", "S"}, {"user", "V"}}),
            "<s> [INST] S\n\nU [/INST] A</s> [INST] V [/INST]");
  EXPECT_EQ(Text({{"system", ""}, {"user", "U"}}), "<s> [INST] U [/INST]");
  EXPECT_EQ(Text({{"system", ""}, {"system", ""}, {"user", "U"}}), "<s> [INST] \n\n\n\nU [/INST]");
}

TEST(ChatFormatTest, ConsecutiveMessagesOfOneRoleAreJoined) {
  EXPECT_EQ(Text({{"user", "U"}, {"user", "V"}}), "<s> [INST] U\n\nV [/INST]");
  EXPECT_EQ(Text({{"user", "U"}, {"system", "S"}, {"user", "V"}}),
            "<s> [INST] S\n\nU\n\nV [/INST]");
  EXPECT_EQ(Text({{"user", "U"}, {"assistant", "A"}, {"assistant", ""}}),
            "<s> [INST] U [/INST] A\n\n</s>");
  EXPECT_EQ(Text({{"user", ""}}), "<s> [INST]  [/INST]");
}

TEST(ChatFormatTest, ErrorsNameTheMessage) {
  EXPECT_EQ(Error({}), "messages: expected a user message, found none");
  EXPECT_EQ(Error({{"system", "S"}}), "messages: expected a user message, found none");
  EXPECT_EQ(Error({{"system", "S"}, {"assistant", "A"}}),
            "messages[1].role: expected user (who starts a conversation), found assistant");
  EXPECT_EQ(Error({{"user", "U"}, {"assistant", ""}, {"user", "V"}}),
            "messages[1].content: expected text from the assistant, found none");
  EXPECT_EQ(Error({{"user", "U"}, {"tool", "T"}}),
            "messages[1].role: expected system, user or assistant, found 'tool'");
  EXPECT_EQ(Error({{"", "U"}}), "messages[0].role: expected system, user or assistant, found ''");
  EXPECT_EQ(Error({{"User\n" + std::string(100, 'x'), "U"}}),
            "messages[0].role: expected system, user or assistant, found 'User\\n" +
                std::string(27, 'x') + "'");
}

TEST(ChatFormatTest, ATokenizerWithoutControlPiecesHasNoChat) {
  ModelFile file;
  file.Piece("<unk>", 0, PieceType::kUnknown).Piece("a", 0);
  const auto tokenizer = Tokenizer::FromBytes(file.Bytes(), "test");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(ChatFormat::MistralV1(tokenizer->get()).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace moed
