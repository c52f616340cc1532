#include "client/connection_options.h"

#include <cstdlib>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace moed {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ConnectionOptionsTest : public ::testing::Test {
 protected:
  void SetUp() override { unsetenv("MOEDCTL_KEY"); }
  void TearDown() override { unsetenv("MOEDCTL_KEY"); }

  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = ::testing::TempDir() + "moedctl_" + name;
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  // The error of these options, which must be the caller's.
  std::string Refused(const ConnectionOptions& options) {
    const absl::Status status = LoadCredentials(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  }
};

TEST_F(ConnectionOptionsTest, WithoutAnyThereIsNoKeyAndNoEncryption) {
  const auto credentials = LoadCredentials({});
  ASSERT_TRUE(credentials.ok()) << credentials.status();
  EXPECT_EQ(credentials->key, "");
  EXPECT_FALSE(credentials->tls);
}

TEST_F(ConnectionOptionsTest, AKeyFileBeatsTheEnvironment) {
  setenv("MOEDCTL_KEY", "from-the-environment", 1);
  EXPECT_EQ(LoadCredentials({})->key, "from-the-environment");
  ConnectionOptions options;
  options.key_file = Write("key", "from-a-file\n");
  EXPECT_EQ(LoadCredentials(options)->key, "from-a-file");
}

TEST_F(ConnectionOptionsTest, AKeyThatCannotTravelIsRefusedUnseen) {
  ConnectionOptions options;
  for (const char* text : {"two\nkeys\n", "with space", "\n", "\xc3\xa4"}) {
    options.key_file = Write("bad_key", text);
    const std::string error = Refused(options);
    EXPECT_THAT(error, HasSubstr("--key-file"));
    EXPECT_THAT(error, Not(HasSubstr("keys\n")));
    EXPECT_THAT(error, Not(HasSubstr("with space")));
  }
  setenv("MOEDCTL_KEY", "two keys", 1);
  EXPECT_THAT(Refused({}), HasSubstr("MOEDCTL_KEY"));
}

TEST_F(ConnectionOptionsTest, AMissingFileNamesItsOption) {
  ConnectionOptions options;
  options.key_file = "/no/such/file";
  EXPECT_THAT(Refused(options), HasSubstr("--key-file: cannot read /no/such/file"));
  options = {};
  options.tls_ca = "/no/such/file";
  EXPECT_THAT(Refused(options), HasSubstr("--tls-ca: cannot read"));
  options.tls_ca = Write("empty", "");
  EXPECT_THAT(Refused(options), HasSubstr("is empty"));
  options.tls_ca = ::testing::TempDir();  // a directory
  EXPECT_THAT(Refused(options), HasSubstr("--tls-ca"));
}

TEST_F(ConnectionOptionsTest, AnyTlsOptionEncrypts) {
  ConnectionOptions options;
  options.tls = true;
  EXPECT_TRUE(LoadCredentials(options)->tls);
  options = {};
  options.tls_server_name = "moed";
  EXPECT_TRUE(LoadCredentials(options)->tls);
  EXPECT_EQ(LoadCredentials(options)->server_name, "moed");
  options = {};
  options.tls_ca = Write("ca", "CA");
  EXPECT_TRUE(LoadCredentials(options)->tls);
  EXPECT_EQ(LoadCredentials(options)->ca_pem, "CA");
  options = {};
  options.tls_certificate = Write("certificate", "C");
  EXPECT_THAT(Refused(options), HasSubstr("belong together"));
  options.tls_key = Write("tls_key", "K");
  EXPECT_EQ(LoadCredentials(options)->certificate_pem, "C");
  EXPECT_EQ(LoadCredentials(options)->key_pem, "K");
}

}  // namespace
}  // namespace moed
