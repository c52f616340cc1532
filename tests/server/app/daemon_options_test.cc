#include "server/app/daemon_options.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/app/exit_code.h"
#include "server/app/start_report.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

ParsedCommandLine Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "moed");
  return ParseCommandLine(static_cast<int>(arguments.size()), arguments.data());
}

class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Environment() { unsetenv(name_); }

 private:
  const char* name_;
};

void ExpectUsageError(const std::vector<const char*>& arguments, const std::string& text) {
  const ParsedCommandLine parsed = Parse(arguments);
  EXPECT_FALSE(parsed.run);
  EXPECT_EQ(parsed.exit_code, kExitUsage);
  EXPECT_THAT(parsed.text, HasSubstr(text));
}

TEST(DaemonOptionsTest, NeedsAModelOnly) {
  const ParsedCommandLine parsed = Parse({"--model", "m"});
  ASSERT_TRUE(parsed.run) << parsed.text;
  EXPECT_EQ(parsed.options.model, "m");
  EXPECT_EQ(parsed.options.ranks, 1);
  EXPECT_THAT(parsed.options.listen, ElementsAre("127.0.0.1:9000"));
  EXPECT_THAT(parsed.options.admin_listen, ElementsAre("127.0.0.1:9400"));
  EXPECT_TRUE(parsed.options.access_log);
  EXPECT_EQ(parsed.options.limits.message_bytes, 4 << 20);
  EXPECT_EQ(parsed.options.limits.queued_requests, 1024);
  ExpectUsageError({}, "--model");
}

TEST(DaemonOptionsTest, ReadsEveryFlag) {
  const ParsedCommandLine parsed = Parse({"--model=m",
                                          "--model-name=n",
                                          "--load-format=dummy",
                                          "--dummy-seed=3",
                                          "--dtype=float32",
                                          "--ranks=8",
                                          "--threads=2",
                                          "--cpu-isa=portable",
                                          "--exchange=gather",
                                          "--rank-timeout=1.5",
                                          "--kv-cache-size=2GiB",
                                          "--kv-blocks=9",
                                          "--block-size=8",
                                          "--max-sequences=5",
                                          "--max-batched-tokens=6",
                                          "--rank-memory=80GiB",
                                          "--queue-limit=11",
                                          "--max-requests-per-client=21",
                                          "--default-max-tokens=12",
                                          "--max-stop-strings=13",
                                          "--max-stop-string-bytes=14",
                                          "--max-stop-token-ids=15",
                                          "--max-chat-messages=16",
                                          "--max-message-size=1MiB",
                                          "--no-prefix-cache",
                                          "--priority-ageing=0.25",
                                          "--capacity-factor=1.5",
                                          "--max-experts-per-token=4",
                                          "--allow-routed-experts",
                                          "--expert-token-statistics",
                                          "--max-n=3",
                                          "--max-logit-bias=17",
                                          "--max-bad-words=18",
                                          "--max-bad-word-bytes=19",
                                          "--max-logprobs=20",
                                          "--listen=127.0.0.1:0",
                                          "--listen=[::1]:5",
                                          "--admin-listen=127.0.0.1:6",
                                          "--admin-listen=localhost:0",
                                          "--port-file=p",
                                          "--grpc-reflection",
                                          "--stream-buffer-size=64KiB",
                                          "--drain-timeout=2.5",
                                          "--slow-reader-timeout=3.5",
                                          "--max-connections=22",
                                          "--keepalive=4.5",
                                          "--max-connection-age=5.5",
                                          "--max-metadata-size=32KiB",
                                          "--key-file=k",
                                          "--tls-certificate=c",
                                          "--tls-key=d",
                                          "--tls-client-ca=e",
                                          "--admin-tls",
                                          "--no-access-log",
                                          "--verify-checkpoint",
                                          "--log-format=json",
                                          "--log-level=debug",
                                          "--dry-run"});
  ASSERT_TRUE(parsed.run) << parsed.text;
  const DaemonOptions& o = parsed.options;
  EXPECT_EQ(o.model_name, "n");
  EXPECT_EQ(o.load_format, "dummy");
  EXPECT_EQ(o.dummy_seed, 3U);
  EXPECT_EQ(o.dtype, "float32");
  EXPECT_EQ(o.ranks, 8);
  EXPECT_EQ(o.threads, 2);
  EXPECT_EQ(o.cpu_isa, "portable");
  EXPECT_EQ(o.exchange, "gather");
  EXPECT_EQ(o.rank_timeout_seconds, 1.5);
  EXPECT_EQ(o.kv_cache_bytes, int64_t{2} << 30);
  EXPECT_EQ(o.kv_blocks, 9);
  EXPECT_EQ(o.block_size, 8);
  EXPECT_EQ(o.max_sequences, 5);
  EXPECT_EQ(o.max_batched_tokens, 6);
  EXPECT_EQ(o.rank_memory_bytes, int64_t{80} << 30);
  EXPECT_EQ(o.limits.queued_requests, 11);
  EXPECT_EQ(o.limits.default_max_tokens, 12);
  EXPECT_EQ(o.limits.stop_strings, 13);
  EXPECT_EQ(o.limits.stop_string_bytes, 14);
  EXPECT_EQ(o.limits.stop_token_ids, 15);
  EXPECT_EQ(o.limits.chat_messages, 16);
  EXPECT_EQ(o.limits.message_bytes, 1 << 20);
  EXPECT_TRUE(o.no_prefix_cache);
  EXPECT_EQ(o.priority_ageing_seconds, 0.25);
  EXPECT_EQ(o.capacity_factor, 1.5);
  EXPECT_EQ(o.limits.experts_per_token, 4);
  EXPECT_TRUE(o.limits.routed_experts);
  EXPECT_TRUE(o.expert_token_statistics);
  EXPECT_EQ(o.limits.n, 3);
  EXPECT_EQ(o.limits.logit_bias, 17);
  EXPECT_EQ(o.limits.bad_words, 18);
  EXPECT_EQ(o.limits.bad_word_bytes, 19);
  EXPECT_EQ(o.limits.logprobs, 20);
  EXPECT_THAT(o.listen, ElementsAre("127.0.0.1:0", "[::1]:5"));
  EXPECT_THAT(o.admin_listen, ElementsAre("127.0.0.1:6", "localhost:0"));
  EXPECT_EQ(o.port_file, "p");
  EXPECT_EQ(o.limits.requests_per_client, 21);
  EXPECT_EQ(o.slow_reader_timeout_seconds, 3.5);
  EXPECT_EQ(o.max_connections, 22);
  EXPECT_EQ(o.keepalive_seconds, 4.5);
  EXPECT_EQ(o.max_connection_age_seconds, 5.5);
  EXPECT_EQ(o.max_metadata_bytes, 32 << 10);
  EXPECT_EQ(o.key_file, "k");
  EXPECT_EQ(o.tls_certificate, "c");
  EXPECT_EQ(o.tls_key, "d");
  EXPECT_EQ(o.tls_client_ca, "e");
  EXPECT_TRUE(o.admin_tls);
  EXPECT_FALSE(o.access_log);
  EXPECT_TRUE(o.verify_checkpoint);
  EXPECT_TRUE(o.grpc_reflection);
  EXPECT_EQ(o.stream_buffer_bytes, size_t{64} << 10);
  EXPECT_EQ(o.drain_timeout_seconds, 2.5);
  EXPECT_EQ(o.log_format, "json");
  EXPECT_EQ(o.log_level, "debug");
  EXPECT_TRUE(o.dry_run);
}

TEST(DaemonOptionsTest, WhatGivesAPromiseUpIsOffUnlessAsked) {
  const DaemonOptions o = Parse({"--model=m"}).options;
  EXPECT_EQ(o.capacity_factor, 0);
  EXPECT_FALSE(o.limits.routed_experts);
  EXPECT_FALSE(o.expert_token_statistics);
  EXPECT_FALSE(o.no_prefix_cache);
  EXPECT_THAT(StartWarnings(o), ElementsAre());
  const std::vector<std::string> warnings =
      StartWarnings(Parse({"--model=m", "--capacity-factor=1.25", "--allow-routed-experts",
                           "--expert-token-statistics"})
                        .options);
  ASSERT_EQ(warnings.size(), 3U);
  EXPECT_THAT(warnings[0], HasSubstr("--capacity-factor 1.25"));
}

TEST(DaemonOptionsTest, AsManyContinuationsAsSequences) {
  EXPECT_EQ(Parse({"--model=m"}).options.limits.n, 16);
  EXPECT_EQ(Parse({"--model=m", "--max-sequences=4"}).options.limits.n, 4);
  EXPECT_EQ(Parse({"--model=m", "--max-sequences=4", "--max-n=2"}).options.limits.n, 2);
}

TEST(DaemonOptionsTest, AFlagBeatsItsEnvironmentVariable) {
  const Environment ranks("MOED_RANKS", "3");
  const Environment model("MOED_MODEL", "from-environment");
  ParsedCommandLine parsed = Parse({});
  ASSERT_TRUE(parsed.run) << parsed.text;
  EXPECT_EQ(parsed.options.ranks, 3);
  EXPECT_EQ(parsed.options.model, "from-environment");
  parsed = Parse({"--ranks", "5"});
  EXPECT_EQ(parsed.options.ranks, 5);
  const Environment listen("MOED_LISTEN", "127.0.0.1:1");
  EXPECT_THAT(Parse({"--listen", "127.0.0.1:2"}).options.listen, ElementsAre("127.0.0.1:2"));
}

TEST(DaemonOptionsTest, ABadEnvironmentVariableIsAConfigurationError) {
  const Environment ranks("MOED_RANKS", "many");
  const ParsedCommandLine parsed = Parse({"--model=m"});
  EXPECT_FALSE(parsed.run);
  EXPECT_EQ(parsed.exit_code, kExitConfig);
  EXPECT_THAT(parsed.text, HasSubstr("MOED_RANKS: must be a whole number in [1, 1024], got many"));
}

TEST(DaemonOptionsTest, RefusesWhatItDoesNotSupportByName) {
  ExpectUsageError({"--model=m", "--ranks=0"}, "--ranks");
  ExpectUsageError({"--model=m", "--ranks=-1"}, "--ranks");
  ExpectUsageError({"--model=m", "--load-format=gguf"}, "--load-format");
  ExpectUsageError({"--model=m", "--priority-ageing=-1"}, "--priority-ageing");
  ExpectUsageError({"--model=m", "--capacity-factor=-0.5"}, "--capacity-factor");
  ExpectUsageError({"--model=m", "--capacity-factor=nan"}, "--capacity-factor");
  ExpectUsageError({"--model=m", "--max-experts-per-token=0"}, "--max-experts-per-token");
  ExpectUsageError({"--model=m", "--max-logprobs=21"}, "--max-logprobs");
  ExpectUsageError({"--model=m", "--max-n=0"}, "--max-n");
  ExpectUsageError({"--model=m", "--dtype=float16"}, "--dtype");
  ExpectUsageError({"--model=m", "--cpu-isa=neon"}, "--cpu-isa");
  ExpectUsageError({"--model=m", "--exchange=nccl"}, "--exchange");
  ExpectUsageError({"--model=m", "--kv-cache-size=lots"}, "--kv-cache-size");
  ExpectUsageError({"--model=m", "--kv-blocks=0"}, "--kv-blocks");
  ExpectUsageError({"--model=m", "--max-message-size=5GiB"}, "--max-message-size");
  ExpectUsageError({"--model=m", "--max-message-size=268435457"}, "--max-message-size");
  EXPECT_EQ(Parse({"--model=m", "--max-message-size=256MiB"}).options.limits.message_bytes,
            256 << 20);
  ExpectUsageError({"--model=m", "--stream-buffer-size=0"}, "--stream-buffer-size");
  ExpectUsageError({"--model=m", "--drain-timeout=-1"}, "--drain-timeout");
  ExpectUsageError({"--model=m", "--log-level=loud"}, "--log-level");
  ExpectUsageError({"--model=m", "--max-metadata-size=1"}, "--max-metadata-size");
  ExpectUsageError({"--model=m", "--max-connections=0"}, "--max-connections");
  ExpectUsageError({"--model=m", "--ranks=2", "--ranks=3"}, "--ranks");
  ExpectUsageError({"--model=m", "--ranks"}, "--ranks");
  ExpectUsageError({"--model="}, "--model");
  ExpectUsageError({"--model=m", "--config="}, "--config");
  ExpectUsageError({"--model=m", "--no-such-flag"}, "--no-such-flag");
  ExpectUsageError({"--model=m", "--kv-block=3"}, "did you mean --kv-blocks?");
  ExpectUsageError({"--model=m", "extra"}, "extra");
}

TEST(DaemonOptionsTest, RefusesAnAddressWithoutAPort) {
  for (const char* address : {"localhost", ":9000", "h:", "h:x", "h:65536", "h:-1"}) {
    ExpectUsageError({"--model=m", "--listen", address}, "--listen");
    ExpectUsageError({"--model=m", "--admin-listen", address}, "--admin-listen");
  }
  ExpectUsageError({"--model=m", "--listen", "::1:9000"}, "in brackets");
  ExpectUsageError({"--model=m", "--listen", "none"}, "--listen");
}

TEST(DaemonOptionsTest, TheAdminPortCanBeLeftOut) {
  EXPECT_THAT(Parse({"--model=m", "--admin-listen=none"}).options.admin_listen, ElementsAre());
  ExpectUsageError({"--model=m", "--admin-listen=none", "--admin-listen=localhost:1"},
                   "--admin-listen");
}

TEST(DaemonOptionsTest, TellsAllThatIsWrong) {
  const ParsedCommandLine parsed = Parse({"--ranks=0", "--dtype=int8", "--tls-key=k"});
  EXPECT_EQ(parsed.exit_code, kExitUsage);
  for (const char* text : {"--model", "--ranks: ", "--dtype: ", "--tls-key needs"}) {
    EXPECT_THAT(parsed.text, HasSubstr(text));
  }
}

TEST(DaemonOptionsTest, HelpAndVersionAreNoErrors) {
  const ParsedCommandLine help = Parse({"--help"});
  EXPECT_FALSE(help.run);
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.text, HasSubstr("moed --model models/demo --ranks 8"));
  EXPECT_THAT(help.text, HasSubstr("MOED_KV_BLOCKS"));
  EXPECT_THAT(help.text, HasSubstr("HOST:PORT=127.0.0.1:9000"));
  EXPECT_THAT(help.text, HasSubstr("SIZE=4MiB"));
  EXPECT_THAT(help.text, Not(HasSubstr("[]")));
  const ParsedCommandLine version = Parse({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_THAT(version.text, HasSubstr("moed "));
}

TEST(DaemonOptionsTest, KnowsWhichAddressesAreThisMachinesOwn) {
  EXPECT_TRUE(AllLoopback({"127.0.0.1:1", "localhost:2", "[::1]:3", "127.1.2.3:4"}));
  EXPECT_FALSE(AllLoopback({"127.0.0.1:1", "0.0.0.0:2"}));
  EXPECT_FALSE(AllLoopback({"[::]:1"}));
  EXPECT_FALSE(AllLoopback({"10.0.0.1:1"}));
  EXPECT_FALSE(AllLoopback({"127.example.com:1"}));
  EXPECT_FALSE(AllLoopback({"127.0.0.1.example.com:1"}));
  EXPECT_FALSE(AllLoopback({"localhost.example.com:1"}));
}

}  // namespace
}  // namespace moed
