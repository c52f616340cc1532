#include "client/client_options.h"

#include <cstdlib>
#include <vector>

#include "client/exit_code.h"
#include "client/generate_request.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ParsedClientLine Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "moedctl");
  return ParseClientLine(static_cast<int>(arguments.size()), arguments.data());
}

TEST(ClientOptionsTest, OptionsStandBeforeOrAfterTheCommand) {
  for (const auto& line : {Parse({"--server", "h:1", "--json", "model"}),
                           Parse({"model", "--server", "h:1", "--json"})}) {
    ASSERT_TRUE(line.run) << line.text;
    EXPECT_EQ(line.options.command, Command::kModel);
    EXPECT_EQ(line.options.server, "h:1");
    EXPECT_TRUE(line.options.json);
  }
}

TEST(ClientOptionsTest, SendsWhatWasGivenAndNothingElse) {
  const ParsedClientLine line =
      Parse({"generate", "--max-tokens", "5", "--temperature", "0", "--seed", "0", "--stop", "a",
             "--stop", "b", "--stop-token", "9", "--ignore-eos", "hello"});
  ASSERT_TRUE(line.run) << line.text;
  const v1::StreamGenerateRequest request = MakeGenerateRequest(line.options);
  EXPECT_EQ(request.stopping().max_tokens(), 5);
  EXPECT_FALSE(request.stopping().has_min_tokens());
  EXPECT_THAT(request.stopping().stop_strings(), ElementsAre("a", "b"));
  EXPECT_THAT(request.stopping().stop_token_ids(), ElementsAre(9U));
  EXPECT_TRUE(request.stopping().ignore_eos());
  EXPECT_TRUE(request.sampling().has_temperature());
  EXPECT_TRUE(request.sampling().has_seed());
  EXPECT_FALSE(request.sampling().has_top_k());
  EXPECT_FALSE(request.sampling().has_top_p());
  EXPECT_FALSE(request.response().has_logprobs());
  EXPECT_EQ(line.options.text, "hello");
}

TEST(ClientOptionsTest, AFlagBeatsTheEnvironmentWhereverItStands) {
  setenv("MOED_SERVER", "environment:1", 1);
  EXPECT_EQ(Parse({"--server", "h:1", "model"}).options.server, "h:1");
  EXPECT_EQ(Parse({"model", "--server", "h:1"}).options.server, "h:1");
  EXPECT_EQ(Parse({"model"}).options.server, "environment:1");
  setenv("MOED_SERVER", "", 1);
  EXPECT_EQ(Parse({"model"}).options.server, "127.0.0.1:9000");
  unsetenv("MOED_SERVER");
}

TEST(ClientOptionsTest, AnOptionLeavesThePromptThatFollowsIt) {
  for (const char* option : {"--stop", "--stop-token"}) {
    for (const char* command : {"generate", "chat"}) {
      const ParsedClientLine line = Parse({command, option, "7", "prompt"});
      ASSERT_TRUE(line.run) << option << ": " << line.text;
      EXPECT_EQ(line.options.text + line.options.message, "prompt") << option;
    }
  }
  // One prompt too many, and not more ids.
  EXPECT_EQ(Parse({"generate", "--token-ids", "1,2", "3"}).exit_code, kExitUsage);
  EXPECT_EQ(Parse({"tokenize", "--decode", "1,2", "3"}).exit_code, kExitUsage);
}

TEST(ClientOptionsTest, ReadsTokenIds) {
  EXPECT_THAT(Parse({"generate", "--token-ids", "1,2,3"}).options.token_ids,
              ElementsAre(1U, 2U, 3U));
  EXPECT_THAT(Parse({"tokenize", "--decode", "7"}).options.token_ids, ElementsAre(7U));
}

TEST(ClientOptionsTest, LogprobsNeedJson) {
  EXPECT_TRUE(Parse({"generate", "x", "--logprobs", "0"}).options.json);
}

TEST(ClientOptionsTest, WhatCannotBeDoneIsAUsageError) {
  const std::vector<std::vector<const char*>> lines = {{},
                                                       {"nothing"},
                                                       {"generate"},
                                                       {"generate", "text", "--token-ids", "1"},
                                                       {"generate", "text", "--max-tokens", "many"},
                                                       {"tokenize"},
                                                       {"model", "extra"},
                                                       {"model", "--timeout", "0"}};
  for (const auto& arguments : lines) {
    const ParsedClientLine line = Parse(arguments);
    EXPECT_FALSE(line.run);
    EXPECT_EQ(line.exit_code, kExitUsage) << line.text;
  }
}

TEST(ClientOptionsTest, HelpShowsExamples) {
  const ParsedClientLine line = Parse({"--help"});
  EXPECT_EQ(line.exit_code, 0);
  EXPECT_THAT(line.text, HasSubstr("moedctl generate"));
}

}  // namespace
}  // namespace moed
