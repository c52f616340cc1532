#include "server/app/settings.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/app/daemon_options.h"
#include "server/app/exit_code.h"
#include "server/app/option_groups.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Environment() { unsetenv(name_); }

 private:
  const char* name_;
};

class SettingsTest : public testing::Test {
 protected:
  SettingsTest() : path_(testing::TempDir() + "/settings_" + std::to_string(getpid()) + ".toml") {}
  ~SettingsTest() override { std::filesystem::remove(path_); }

  void Write(const std::string& text) { std::ofstream(path_, std::ios::binary) << text; }
  ParsedCommandLine Parse(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"moed", "--config", path_});
    std::vector<const char*> pointers;
    for (const std::string& argument : arguments) pointers.push_back(argument.c_str());
    return ParseCommandLine(static_cast<int>(pointers.size()), pointers.data());
  }
  void ExpectConfigError(const std::string& file, const std::string& text) {
    Write(file);
    const ParsedCommandLine parsed = Parse({"--model=m"});
    EXPECT_FALSE(parsed.run) << file;
    EXPECT_EQ(parsed.exit_code, kExitConfig) << file;
    EXPECT_THAT(parsed.text, HasSubstr(text));
    EXPECT_THAT(parsed.text, HasSubstr(path_));
  }

  const std::string path_;
};

TEST_F(SettingsTest, AFileSetsEveryKindOfOption) {
  Write(R"(
model = "from-file"            # a comment
ranks = 8
rank-timeout = 1.5
drain-timeout = 2
kv-cache-size = "2GiB"
max-message-size = 1_048_576
no-prefix-cache = true
listen = ["127.0.0.1:1", "[::1]:2"]
admin-listen = "none"
no-access-log = true
)");
  const ParsedCommandLine parsed = Parse({});
  ASSERT_TRUE(parsed.run) << parsed.text;
  const DaemonOptions& o = parsed.options;
  EXPECT_EQ(o.model, "from-file");
  EXPECT_EQ(o.ranks, 8);
  EXPECT_EQ(o.rank_timeout_seconds, 1.5);
  EXPECT_EQ(o.drain_timeout_seconds, 2);
  EXPECT_EQ(o.kv_cache_bytes, int64_t{2} << 30);
  EXPECT_EQ(o.limits.message_bytes, 1 << 20);
  EXPECT_TRUE(o.no_prefix_cache);
  EXPECT_THAT(o.listen, ElementsAre("127.0.0.1:1", "[::1]:2"));
  EXPECT_THAT(o.admin_listen, ElementsAre());
  EXPECT_FALSE(o.access_log);
}

TEST_F(SettingsTest, AFlagBeatsTheEnvironmentWhichBeatsTheFile) {
  Write("model = 'm'\nranks = 2\nlisten = ['127.0.0.1:2']\n");
  EXPECT_EQ(Parse({}).options.ranks, 2);
  const Environment ranks("MOED_RANKS", "3");
  const Environment listen("MOED_LISTEN", "127.0.0.1:3, 127.0.0.1:4");
  EXPECT_EQ(Parse({}).options.ranks, 3);
  EXPECT_THAT(Parse({}).options.listen, ElementsAre("127.0.0.1:3", "127.0.0.1:4"));
  EXPECT_EQ(Parse({"--ranks=4"}).options.ranks, 4);
  EXPECT_THAT(Parse({"--listen=127.0.0.1:5"}).options.listen, ElementsAre("127.0.0.1:5"));
}

TEST_F(SettingsTest, AnEmptyVariableIsAsNotThere) {
  Write("model = 'm'\nranks = 2\n");
  const Environment ranks("MOED_RANKS", "");
  EXPECT_EQ(Parse({}).options.ranks, 2);
}

TEST_F(SettingsTest, AVariableCanSwitchOffWhatTheFileSwitchesOn) {
  Write("model = 'm'\nno-prefix-cache = true\n");
  const Environment off("MOED_NO_PREFIX_CACHE", "off");
  EXPECT_FALSE(Parse({}).options.no_prefix_cache);
  EXPECT_TRUE(Parse({"--no-prefix-cache"}).options.no_prefix_cache);
}

TEST_F(SettingsTest, TheEnvironmentCanNameTheFile) {
  Write("model = 'm'\nranks = 7\n");
  const Environment config("MOED_CONFIG", path_.c_str());
  const char* arguments[] = {"moed"};
  EXPECT_EQ(ParseCommandLine(1, arguments).options.ranks, 7);
}

TEST_F(SettingsTest, AnUnknownKeyIsNamedWithLineAndWhatWasMeant) {
  ExpectConfigError("ranks = 2\nkv_blocks = 3\n",
                    ":2: kv_blocks: there is no such setting; did you mean kv-blocks?");
  ExpectConfigError("max-sequence = 3\n", "did you mean max-sequences?");
  ExpectConfigError("zzzzzzzzzzzz = 3\n", ":1: zzzzzzzzzzzz: there is no such setting\n");
  ExpectConfigError("[network]\nlisten = 'h:1'\n", ":1: network: there is no such setting");
  ExpectConfigError("config = 'x'\n", "config: there is no such setting");
}

TEST_F(SettingsTest, AValueOfTheWrongKindIsNamed) {
  ExpectConfigError("ranks = '2'\n", ":1: ranks: must be a whole number, got a text");
  ExpectConfigError("ranks = 2.0\n", "ranks: must be a whole number, got a number with a fraction");
  ExpectConfigError("model-name = 3\n", "model-name: must be a text in quotes, got a whole number");
  ExpectConfigError("no-prefix-cache = 1\n", "no-prefix-cache: must be true or false");
  ExpectConfigError("drain-timeout = '3'\n", "drain-timeout: must be a number, got a text");
  ExpectConfigError("kv-cache-size = 1.5\n", "kv-cache-size: must be a size");
  ExpectConfigError("listen = 9000\n", "listen: must be a text or a list of texts");
  ExpectConfigError("listen = ['h:1', 2]\n", "listen: must be a text or a list of texts");
  ExpectConfigError("listen = []\n", "listen: must have an address");
  ExpectConfigError("ranks = {a = 1}\n", "ranks: must be a whole number, got a table");
  ExpectConfigError("model-name = 1979-05-27\n", "model-name: must be a text");
}

TEST_F(SettingsTest, AValueOutOfRangeIsNamed) {
  ExpectConfigError("\n\nranks = 0\n", ":3: ranks: must be a whole number in [1, 1024], got 0");
  ExpectConfigError("drain-timeout = nan\n", "drain-timeout: must be a number in");
  ExpectConfigError("dtype = 'int8'\n", "dtype: must be one of auto, float32, bfloat16, got int8");
  ExpectConfigError("kv-cache-size = 'lots'\n", "kv-cache-size: must be a size like 512MiB");
  ExpectConfigError("kv-cache-size = '9999999999TiB'\n", "kv-cache-size: must be");
  ExpectConfigError("port-file = ''\n", "port-file: must not be empty");
  ExpectConfigError("port-file = \"a\\u0000b\"\n", "port-file: must not have a NUL");
}

TEST_F(SettingsTest, ConflictsInAFileAreConfigurationErrorsToo) {
  Write("model = 'm'\ntls-key = 'k'\n");
  const ParsedCommandLine parsed = Parse({});
  EXPECT_EQ(parsed.exit_code, kExitConfig);
  EXPECT_THAT(parsed.text, HasSubstr("--tls-key needs --tls-certificate"));
}

TEST_F(SettingsTest, TellsAllThatIsWrongInAFile) {
  Write("rank = 1\nranks = 0\nfoo-bar-baz = 1\n");
  const std::string text = Parse({"--model=m"}).text;
  for (const char* part : {":1: rank:", ":2: ranks:", ":3: foo-bar-baz:"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST_F(SettingsTest, AFileThatCannotBeReadIsNamed) {
  const ParsedCommandLine missing = Parse({"--model=m"});
  EXPECT_EQ(missing.exit_code, kExitConfig);
  EXPECT_THAT(missing.text, HasSubstr("--config " + path_ + ": cannot be opened"));
  std::filesystem::create_directory(path_);
  const ParsedCommandLine directory = Parse({"--model=m"});
  EXPECT_EQ(directory.exit_code, kExitConfig);
  EXPECT_THAT(directory.text, HasSubstr("Is a directory"));
}

// Everything set to something else than its default, and back again.
TEST_F(SettingsTest, WhatIsPrintedReadsBack) {
  Write(R"(
model = "a \"quoted\" \\ näme\u007F"
model-name = "n"
load-format = "dummy"
dummy-seed = 9223372036854775807
verify-checkpoint = true
dtype = "float32"
ranks = 3
threads = 4
cpu-isa = "portable"
exchange = "exact"
rank-timeout = 0.001
kv-cache-size = "3GiB"
kv-blocks = 11
block-size = 8
max-sequences = 5
max-batched-tokens = 6
no-prefix-cache = true
device = "cpu"
deterministic = true
priority-ageing = 0.1
capacity-factor = 1.25
max-experts-per-token = 4
allow-routed-experts = true
expert-token-statistics = true
queue-limit = 12
max-requests-per-client = 13
default-max-tokens = 14
max-n = 2
max-logit-bias = 15
max-bad-words = 16
max-bad-word-bytes = 17
max-stop-strings = 18
max-stop-string-bytes = 19
max-stop-token-ids = 20
max-chat-messages = 21
max-logprobs = 7
max-message-size = 1000
listen = ["127.0.0.1:1", "[::1]:2"]
admin-listen = "none"
port-file = "p"
grpc-reflection = true
max-connections = 22
keepalive = 23
max-connection-age = 24.5
max-metadata-size = 5000
stream-buffer-size = 77
slow-reader-timeout = 0
drain-timeout = 1e-3
key-file = "k"
tls-certificate = "c"
tls-key = "d"
tls-client-ca = "e"
log-format = "text"
log-level = "error"
no-access-log = true
rank-memory = "80GiB"
)");
  const ParsedCommandLine first = Parse({"--print-config"});
  ASSERT_EQ(first.exit_code, kExitOk) << first.text;
  EXPECT_THAT(first.text, HasSubstr("ranks = 3  # file"));
  Write(first.text);
  const ParsedCommandLine second = Parse({"--print-config"});
  EXPECT_EQ(second.text, absl::StrReplaceAll(first.text, {{"  # default", "  # file"}}));

  // A setting that is not above would make this test weaker than it says.
  DaemonOptions options;
  OptionTable table;
  AddEngineOptions(table, options);
  AddServiceOptions(table, options);
  for (const Option& option : table.options()) {
    // Of the null model; TLS of an admin port that is not there; of GPUs, below.
    static const std::set<std::string> elsewhere = {"null-step-time", "admin-tls", "gpu-plugin",
                                                    "gpu-device", "emulate-rank"};
    if (elsewhere.contains(option.name)) continue;
    EXPECT_THAT(first.text, HasSubstr("\n" + option.name + " = ")) << option.name;
    EXPECT_THAT(first.text, Not(HasSubstr("\n" + option.name + " = " + option.toml() + "  #")));
  }
}

TEST_F(SettingsTest, WhatIsPrintedOfAGpuReadsBack) {
  Write(R"(model = "m"
device = "cuda"
gpu-plugin = "p"
gpu-device = 2
emulate-rank = "1/8"
)");
  const ParsedCommandLine first = Parse({"--print-config"});
  ASSERT_EQ(first.exit_code, kExitOk) << first.text;
  for (const char* setting : {"device = \"cuda\"  # file", "gpu-plugin = \"p\"  # file",
                              "gpu-device = 2  # file", "emulate-rank = \"1/8\"  # file"}) {
    EXPECT_THAT(first.text, HasSubstr(setting));
  }
  Write(first.text);
  const ParsedCommandLine second = Parse({"--print-config"});
  EXPECT_EQ(second.text, absl::StrReplaceAll(first.text, {{"  # default", "  # file"}}));
}

// Defaults that are written out are as good as those that are not.
TEST_F(SettingsTest, WhatIsPrintedOfTheNullModelReadsBack) {
  Write("model = 'null'\n");
  Write(Parse({"--print-config"}).text);
  const ParsedCommandLine parsed = Parse({});
  EXPECT_TRUE(parsed.run) << parsed.text;
}

TEST_F(SettingsTest, PrintsWhereAValueComesFrom) {
  Write("ranks = 2\n");
  const Environment threads("MOED_THREADS", "3");
  const std::string text = Parse({"--print-config", "--kv-blocks=4"}).text;
  EXPECT_THAT(text, HasSubstr("# file: \"" + path_ + "\"\n"));
  EXPECT_THAT(text, HasSubstr("ranks = 2  # file\n"));
  EXPECT_THAT(text, HasSubstr("threads = 3  # environment MOED_THREADS\n"));
  EXPECT_THAT(text, HasSubstr("kv-blocks = 4  # flag --kv-blocks\n"));
  EXPECT_THAT(text, HasSubstr("block-size = 16  # default\n"));
  EXPECT_THAT(text, HasSubstr("# model: not set\n"));
}

}  // namespace
}  // namespace moed
