#include "client/client_options.h"

#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "client/exit_code.h"
#include "client/generate_request.h"
#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ParsedClientLine Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "moedctl");
  return ParseClientLine(static_cast<int>(arguments.size()), arguments.data());
}

// "sampling.top_k=3" for every field that is set; an empty message is as none.
void AddSetFields(const google::protobuf::Message& message, const std::string& path,
                  std::vector<std::string>* result) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const auto* field : fields) {
    const std::string name = path + field->name();
    if (field->message_type() != nullptr && !field->is_repeated()) {
      AddSetFields(reflection.GetMessage(message, field), name + ".", result);
      continue;
    }
    const int count = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      std::string value;
      google::protobuf::TextFormat::PrintFieldValueToString(message, field,
                                                            field->is_repeated() ? i : -1, &value);
      result->push_back(name + "=" + value);
    }
  }
}

std::vector<std::string> SetFields(const google::protobuf::Message& message) {
  std::vector<std::string> result;
  AddSetFields(message, "", &result);
  return result;
}

// Names of all fields of a request but the prompt's.
std::vector<std::string> LeafFields(const google::protobuf::Descriptor& request) {
  std::vector<std::string> result;
  for (int i = 0; i < request.field_count(); ++i) {
    const auto* field = request.field(i);
    if (field->containing_oneof() != nullptr) continue;
    if (field->message_type() == nullptr) {
      result.push_back(field->name());
      continue;
    }
    for (int j = 0; j < field->message_type()->field_count(); ++j) {
      result.push_back(field->name() + "." + field->message_type()->field(j)->name());
    }
  }
  return result;
}

TEST(ClientOptionsTest, OptionsStandBeforeOrAfterTheCommand) {
  for (const auto& line : {Parse({"--server", "h:1", "--json", "model"}),
                           Parse({"model", "--server", "h:1", "--json"})}) {
    ASSERT_TRUE(line.run) << line.text;
    EXPECT_EQ(line.options.command, Command::kModel);
    EXPECT_EQ(line.options.connection.server, "h:1");
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

// Every field of the contract but the prompt has an option, which sets it and nothing else.
TEST(ClientOptionsTest, EveryFieldOfARequestHasAnOption) {
  struct Case {
    std::vector<const char*> arguments;
    const char* expected;  // in text format
  };
  const Case cases[] = {
      {{"--temperature", "0.5"}, "sampling { temperature: 0.5 }"},
      {{"--top-k", "3"}, "sampling { top_k: 3 }"},
      {{"--top-p", "0.5"}, "sampling { top_p: 0.5 }"},
      {{"--min-p", "0.25"}, "sampling { min_p: 0.25 }"},
      {{"--typical-p", "0.5"}, "sampling { typical_p: 0.5 }"},
      {{"--seed", "18446744073709551615"}, "sampling { seed: 18446744073709551615 }"},
      {{"-n", "3"}, "sampling { n: 3 }"},
      {{"--presence-penalty", "-1.5"}, "sampling { presence_penalty: -1.5 }"},
      {{"--frequency-penalty", "-1"}, "sampling { frequency_penalty: -1 }"},
      {{"--repetition-penalty", "1.5"}, "sampling { repetition_penalty: 1.5 }"},
      {{"--logit-bias", "7=-2.5"}, "sampling { logit_bias { key: 7 value: -2.5 } }"},
      {{"--allowed-tokens", "3,4", "--allowed-tokens", "5"},
       "sampling { allowed_token_ids: [3, 4, 5] }"},
      {{"--bad-word", "a b", "--bad-word", "c"}, "sampling { bad_words: ['a b', 'c'] }"},
      {{"--max-tokens", "5"}, "stopping { max_tokens: 5 }"},
      {{"--min-tokens", "4"}, "stopping { min_tokens: 4 }"},
      {{"--stop", "x"}, "stopping { stop_strings: 'x' }"},
      {{"--stop-token", "9"}, "stopping { stop_token_ids: 9 }"},
      {{"--include-stop"}, "stopping { include_stop: true }"},
      {{"--ignore-eos"}, "stopping { ignore_eos: true }"},
      {{"--time-limit-ms", "250"}, "stopping { time_limit_ms: 250 }"},
      {{"--no-text"}, "response { text: false }"},
      {{"--show-token-ids"}, "response { token_ids: true }"},
      {{"--logprobs", "0"}, "response { logprobs: 0 }"},
      {{"--prompt-logprobs", "2"}, "response { prompt_logprobs: 2 }"},
      {{"--echo"}, "response { echo: true }"},
      {{"--special-tokens"}, "response { skip_special_tokens: false }"},
      {{"--routed-experts"}, "response { routed_experts: true }"},
      {{"--experts-per-token", "1"}, "moe { experts_per_token: 1 }"},
      {{"--priority", "-3"}, "scheduling { priority: -3 }"},
      {{"--home-rank", "0"}, "scheduling { home_rank: 0 }"},
      {{"--no-cache"}, "cache { bypass: true }"},
      {{"--cache-salt", "s"}, "cache { salt: 's' }"},
      {{"--request-id", "mine"}, "request_id: 'mine'"},
      {{"--model", "m"}, "model: 'm'"},
  };
  std::set<std::string> fields;
  for (const Case& test : cases) {
    std::vector<const char*> arguments = {"generate", "hello"};
    arguments.insert(arguments.end(), test.arguments.begin(), test.arguments.end());
    const ParsedClientLine line = Parse(arguments);
    ASSERT_TRUE(line.run) << test.expected << ": " << line.text;
    v1::StreamGenerateRequest expected;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(test.expected, &expected))
        << test.expected;
    const std::vector<std::string> asked = SetFields(MakeGenerateRequest(line.options));
    EXPECT_EQ(asked, SetFields(expected)) << test.expected;
    fields.insert(asked.begin(), asked.end());
  }
  std::set<std::string> contract;
  for (const std::string& name : LeafFields(*v1::StreamGenerateRequest::descriptor())) {
    contract.insert(name);
  }
  std::set<std::string> names;
  for (const std::string& field : fields) names.insert(field.substr(0, field.find('=')));
  EXPECT_EQ(names, contract);
}

TEST(ClientOptionsTest, OnlyJsonShowsMoreThanText) {
  for (const char* option : {"--no-text", "--show-token-ids", "--routed-experts"}) {
    EXPECT_TRUE(Parse({"generate", "x", option}).options.json) << option;
  }
  EXPECT_TRUE(Parse({"generate", "x", "--prompt-logprobs", "0"}).options.json);
  EXPECT_FALSE(Parse({"generate", "x", "--echo", "-n", "2"}).options.json);
}

TEST(ClientOptionsTest, ReadsWhatOperatorsAsk) {
  const OperatorOptions window = Parse({"experts", "--window", "2.5"}).options.operate;
  EXPECT_EQ(window.window_seconds, 2.5);
  EXPECT_FALSE(window.tokens);
  EXPECT_FALSE(window.watch);
  const OperatorOptions tokens = Parse({"experts", "--tokens", "--limit", "7"}).options.operate;
  EXPECT_TRUE(tokens.tokens);
  EXPECT_EQ(tokens.token_limit, 7U);
  EXPECT_TRUE(Parse({"experts", "--placement"}).options.operate.placement);
  for (const char* command : {"experts", "ranks"}) {
    const ParsedClientLine watch =
        Parse({command, "--watch", "--interval", "0.5", "--frames", "3"});
    ASSERT_TRUE(watch.run) << watch.text;
    EXPECT_TRUE(watch.options.operate.watch);
    EXPECT_EQ(watch.options.operate.interval_seconds, 0.5);
    EXPECT_EQ(watch.options.operate.frames, 3U);
  }
  const ParsedClientLine drain = Parse({"drain", "--within", "0", "--wait"});
  EXPECT_EQ(drain.options.command, Command::kDrain);
  EXPECT_EQ(drain.options.operate.within_seconds, 0);
  EXPECT_TRUE(drain.options.operate.wait);
  const ParsedClientLine abort = Parse({"abort", "r-1"});
  EXPECT_EQ(abort.options.command, Command::kAbort);
  EXPECT_EQ(abort.options.operate.request_id, "r-1");
  const ParsedClientLine level = Parse({"log-level", "debug"});
  EXPECT_EQ(level.options.command, Command::kLogLevel);
  EXPECT_EQ(level.options.operate.log_level, "debug");
}

TEST(ClientOptionsTest, EveryCommandTakesTheConnectionsOptions) {
  for (std::vector<const char*> line :
       std::vector<std::vector<const char*>>{{"generate", "x"},
                                             {"chat"},
                                             {"tokenize", "x"},
                                             {"model"},
                                             {"experts"},
                                             {"ranks"},
                                             {"drain"},
                                             {"abort", "r"},
                                             {"log-level", "info"}}) {
    for (const char* option :
         {"--timeout", "7", "--key-file", "k", "--tls", "--tls-ca", "a", "--tls-certificate", "c",
          "--tls-key", "p", "--tls-server-name", "n", "--json"}) {
      line.push_back(option);
    }
    const ParsedClientLine parsed = Parse(line);
    ASSERT_TRUE(parsed.run) << line[0] << ": " << parsed.text;
    const ConnectionOptions& o = parsed.options.connection;
    EXPECT_EQ(o.timeout_seconds, 7);
    EXPECT_TRUE(o.tls);
    EXPECT_EQ(o.key_file + o.tls_ca + o.tls_certificate + o.tls_key + o.tls_server_name, "kacpn");
    EXPECT_TRUE(parsed.options.json);
  }
}

TEST(ClientOptionsTest, AFlagBeatsTheEnvironmentWhereverItStands) {
  setenv("MOED_SERVER", "environment:1", 1);
  EXPECT_EQ(Parse({"--server", "h:1", "model"}).options.connection.server, "h:1");
  EXPECT_EQ(Parse({"model", "--server", "h:1"}).options.connection.server, "h:1");
  EXPECT_EQ(Parse({"model"}).options.connection.server, "environment:1");
  setenv("MOED_SERVER", "", 1);
  EXPECT_EQ(Parse({"model"}).options.connection.server, "127.0.0.1:9000");
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
                                                       {"model", "--timeout", "0"},
                                                       {"generate", "x", "--logit-bias", "5"},
                                                       {"generate", "x", "--logit-bias", "-1=2"},
                                                       {"chat", "x", "-n", "2"},
                                                       {"chat", "x", "--echo"},
                                                       {"experts", "--limit", "3"},
                                                       {"experts", "--window", "-1"},
                                                       {"experts", "--window", "5", "--tokens"},
                                                       {"experts", "--placement", "--window", "5"},
                                                       {"experts", "--placement", "--watch"},
                                                       {"experts", "--tokens", "--watch"},
                                                       {"experts", "--interval", "1"},
                                                       {"ranks", "--frames", "1"},
                                                       {"ranks", "--watch", "--frames", "0"},
                                                       {"ranks", "--watch", "--interval", "0"},
                                                       {"drain", "--within", "-1"},
                                                       {"abort"},
                                                       {"log-level"},
                                                       {"model", "--key", "secret"}};
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
  const ParsedClientLine generate = Parse({"generate", "--help"});
  EXPECT_EQ(generate.exit_code, 0);
  EXPECT_THAT(generate.text, HasSubstr("--repetition-penalty"));
  EXPECT_THAT(generate.text, HasSubstr("Examples:"));
  EXPECT_THAT(Parse({"experts", "--help"}).text, HasSubstr("--expert-token-statistics"));
  for (const char* command : {"ranks", "drain", "abort", "log-level"}) {
    EXPECT_THAT(Parse({command, "--help"}).text, HasSubstr("Example")) << command;
  }
}

}  // namespace
}  // namespace moed
