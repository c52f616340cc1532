#include "server/app/option_conflicts.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/app/daemon_options.h"
#include "server/app/exit_code.h"

namespace moed {
namespace {

using ::testing::HasSubstr;

ParsedCommandLine Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "moed");
  return ParseCommandLine(static_cast<int>(arguments.size()), arguments.data());
}

void ExpectRefused(const std::vector<const char*>& arguments, const std::string& text) {
  const ParsedCommandLine parsed = Parse(arguments);
  EXPECT_FALSE(parsed.run) << text;
  EXPECT_EQ(parsed.exit_code, kExitUsage);
  EXPECT_THAT(parsed.text, HasSubstr(text));
}

TEST(OptionConflictsTest, TlsNeedsBothFiles) {
  ExpectRefused({"--model=m", "--tls-key=k"}, "--tls-key needs --tls-certificate");
  ExpectRefused({"--model=m", "--tls-certificate=c"}, "--tls-certificate needs --tls-key");
  ExpectRefused({"--model=m", "--tls-client-ca=c"}, "--tls-client-ca needs --tls-certificate");
  ExpectRefused({"--model=m", "--admin-tls"}, "--admin-tls needs --tls-certificate");
  EXPECT_TRUE(Parse({"--model=m", "--tls-certificate=c", "--tls-key=k", "--admin-tls"}).run);
}

TEST(OptionConflictsTest, TlsOnNoAdminPort) {
  ExpectRefused(
      {"--model=m", "--tls-certificate=c", "--tls-key=k", "--admin-tls", "--admin-listen=none"},
      "--admin-tls has no port to work on with --admin-listen none");
}

TEST(OptionConflictsTest, TheNullModelNeedsNoDirectoryAndNothingToLoad) {
  EXPECT_TRUE(Parse({"--model=null", "--null-step-time=0.01"}).run);
  for (const char* flag :
       {"--load-format=dummy", "--dummy-seed=1", "--dtype=float32", "--cpu-isa=portable",
        "--kv-cache-size=1GiB", "--capacity-factor=2", "--expert-token-statistics", "--device=cpu",
        "--gpu-plugin=p", "--gpu-device=1", "--deterministic", "--emulate-rank=0/8"}) {
    ExpectRefused({"--model=null", flag}, "means nothing with --model null");
  }
  ExpectRefused({"--model=null", "--dry-run"}, "--dry-run has nothing to tell of --model null");
  ExpectRefused({"--model=m", "--null-step-time=1"}, "--null-step-time is for --model null");
}

TEST(OptionConflictsTest, WhatOnlyWorksWithAnotherFlag) {
  ExpectRefused({"--model=m", "--dummy-seed=1"}, "--dummy-seed needs --load-format dummy");
  ExpectRefused({"--model=m", "--rank-memory=1GiB"}, "--rank-memory needs --dry-run");
  EXPECT_TRUE(Parse({"--model=m", "--rank-memory=1GiB", "--dry-run"}).run);
}

TEST(OptionConflictsTest, WhatOnlyOneKindOfDeviceHas) {
  ExpectRefused({"--model=m", "--device=cpu", "--gpu-plugin=p"},
                "--gpu-plugin means nothing with --device cpu");
  ExpectRefused({"--model=m", "--device=cpu", "--gpu-device=1"},
                "--gpu-device means nothing with --device cpu");
  ExpectRefused({"--model=m", "--device=cuda", "--cpu-isa=portable"},
                "--cpu-isa means nothing with --device cuda");
  ExpectRefused({"--model=m", "--device=cuda", "--threads=2"},
                "--threads means nothing with --device cuda");
  EXPECT_TRUE(Parse({"--model=m", "--gpu-plugin=p", "--gpu-device=1", "--threads=2"}).run);
  EXPECT_TRUE(Parse({"--model=m", "--device=cpu", "--deterministic"}).run);
}

TEST(OptionConflictsTest, AnEmulatedRankIsOneOfItsGroupAndAlone) {
  EXPECT_TRUE(Parse({"--model=m", "--emulate-rank=7/8"}).run);
  for (const char* flag : {"--emulate-rank=8/8", "--emulate-rank=3", "--emulate-rank=-1/8",
                           "--emulate-rank=a/b", "--emulate-rank=0/2000"}) {
    ExpectRefused({"--model=m", flag}, "expected R/N with 0 <= R < N <= 1024");
  }
  ExpectRefused({"--model=m", "--emulate-rank=0/8", "--ranks=2"},
                "--emulate-rank runs one rank alone");
}

TEST(OptionConflictsTest, OneAddressOnce) {
  ExpectRefused({"--model=m", "--listen=localhost:1", "--admin-listen=localhost:1"},
                "localhost:1 is given twice, by --listen or --admin-listen");
  EXPECT_TRUE(Parse({"--model=m", "--listen=localhost:0", "--admin-listen=localhost:0"}).run);
}

TEST(OptionConflictsTest, OneActionAtATime) {
  ExpectRefused({"--model=m", "--dry-run", "--check-config"}, "do not go together");
  ExpectRefused({"--model=m", "--print-config", "--check-config"}, "do not go together");
}

}  // namespace
}  // namespace moed
