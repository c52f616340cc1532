#include "server/security/authenticator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/errors/error_details.h"
#include "tests/server/security/test_certificates.h"

namespace moed {
namespace {

constexpr char kRemote[] = "192.0.2.7";

std::string HashOf(const std::string& key) {
  unsigned char hash[32];
  EVP_Digest(key.data(), key.size(), hash, nullptr, EVP_sha256(), nullptr);
  return absl::BytesToHexString(std::string(reinterpret_cast<char*>(hash), sizeof(hash)));
}

class AuthenticatorTest : public ::testing::Test {
 protected:
  AuthenticatorTest() {
    std::string text;
    for (const char* role : {"user", "monitor", "admin"}) {
      absl::StrAppend(&text, role, " the-", role, " sha256:", HashOf(absl::StrCat(role, "-key")),
                      "\n");
    }
    auto keys = KeyRing::Load(directory_.Write("keys", text));
    EXPECT_TRUE(keys.ok()) << keys.status();
    keys_ = *keys;
  }

  TestDirectory directory_;
  std::shared_ptr<KeyRing> keys_;
};

TEST_F(AuthenticatorTest, EachRoleMayDoItsPart) {
  const Authenticator authenticator(keys_);
  struct Case {
    const char* role;
    bool generate, monitor, admin;
  };
  for (const Case& c : {Case{"user", true, false, false}, Case{"monitor", true, true, false},
                        Case{"admin", true, true, true}}) {
    const std::string header = absl::StrCat("Bearer ", c.role, "-key");
    const auto may = [&](Access access) {
      // Where the call comes from makes no difference.
      const auto caller = authenticator.Authenticate(header, "127.0.0.1", access);
      EXPECT_EQ(caller.status(), authenticator.Authenticate(header, kRemote, access).status());
      if (caller.ok()) {
        EXPECT_EQ(caller->client, absl::StrCat("the-", c.role));
      } else {
        EXPECT_EQ(caller.status().code(), absl::StatusCode::kPermissionDenied);
        EXPECT_EQ(ReasonOf(caller.status()), kReasonRoleRequired);
      }
      return caller.ok();
    };
    EXPECT_EQ(may(Access::kGenerate), c.generate) << c.role;
    EXPECT_EQ(may(Access::kMonitor), c.monitor) << c.role;
    EXPECT_EQ(may(Access::kAdmin), c.admin) << c.role;
  }
}

TEST_F(AuthenticatorTest, TakesBearerAndBasic) {
  const Authenticator authenticator(keys_);
  for (const std::string& header :
       {std::string("Bearer user-key"), std::string("bearer   user-key "),
        std::string("BEARER user-key"), "Basic " + absl::Base64Escape("anyone:user-key"),
        "basic " + absl::Base64Escape(":user-key")}) {
    EXPECT_TRUE(authenticator.Authenticate(header, kRemote, Access::kGenerate).ok()) << header;
  }
}

TEST_F(AuthenticatorTest, AWrongKeyAndABrokenHeaderGetTheSameAnswer) {
  const Authenticator authenticator(keys_);
  const absl::Status unknown =
      authenticator.Authenticate("Bearer other-key", kRemote, Access::kGenerate).status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(ReasonOf(unknown), kReasonKeyInvalid);
  for (const std::string& header :
       {std::string(), std::string("Bearer"), std::string("Bearer "), std::string("user-key"),
        std::string("Digest user-key"), std::string("Bearer user-key x"),
        std::string("Basic user-key"), std::string("Basic !!!"),
        "Basic " + absl::Base64Escape("user-key"), "Basic " + absl::Base64Escape("user-key:"),
        std::string("Bearer ") + std::string(100'000, 'x')}) {
    const absl::Status status =
        authenticator.Authenticate(header, "127.0.0.1", Access::kGenerate).status();
    EXPECT_EQ(status, unknown) << header.substr(0, 100);
  }
}

TEST_F(AuthenticatorTest, AKeyThatWasTakenBackIsOneThatNeverWas) {
  const Authenticator authenticator(keys_);
  directory_.Write("keys", absl::StrCat("user new sha256:", HashOf("new-key")));
  ASSERT_TRUE(keys_->Reload().ok());
  EXPECT_EQ(authenticator.Authenticate("Bearer user-key", kRemote, Access::kGenerate).status(),
            authenticator.Authenticate("Bearer no-key", kRemote, Access::kGenerate).status());
  EXPECT_TRUE(authenticator.Authenticate("Bearer new-key", kRemote, Access::kGenerate).ok());
}

TEST_F(AuthenticatorTest, AKeyIsAskedForAlsoOnThisMachine) {
  const Authenticator authenticator(keys_);
  for (const Access access : {Access::kGenerate, Access::kMonitor, Access::kAdmin}) {
    const absl::Status status =
        authenticator.Authenticate(std::nullopt, "127.0.0.1", access).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated);
    EXPECT_EQ(ReasonOf(status), kReasonKeyMissing);
  }
}

TEST(AuthenticatorWithoutKeys, EverybodyMayGenerateAndThisMachineAll) {
  const Authenticator authenticator(nullptr);
  EXPECT_FALSE(authenticator.has_keys());
  for (const char* address : {"127.0.0.1", "::1", "unix"}) {
    const auto caller = authenticator.Authenticate(std::nullopt, address, Access::kAdmin);
    ASSERT_TRUE(caller.ok()) << caller.status();
    EXPECT_EQ(caller->client, address);
    EXPECT_EQ(caller->role, Role::kAdmin);
  }
  for (const char* address : {kRemote, "2001:db8::1", ""}) {
    const auto caller = authenticator.Authenticate(std::nullopt, address, Access::kGenerate);
    ASSERT_TRUE(caller.ok()) << caller.status();
    EXPECT_EQ(caller->role, Role::kUser);
    for (const Access access : {Access::kMonitor, Access::kAdmin}) {
      // A key that nobody asked for changes nothing.
      const absl::Status status = authenticator.Authenticate("Bearer x", address, access).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
      EXPECT_EQ(ReasonOf(status), kReasonRoleRequired);
      EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("key file"));
      if (*address != '\0') {
        EXPECT_THAT(std::string(status.message()), ::testing::Not(::testing::HasSubstr(address)));
      }
    }
  }
}

TEST(IsLoopbackAddress, KnowsThisMachine) {
  for (const char* address : {"127.0.0.1", "127.255.255.254", "::1", "0:0:0:0:0:0:0:1",
                              "::ffff:127.0.0.1", "::ffff:7f00:1", "unix"}) {
    EXPECT_TRUE(IsLoopbackAddress(address)) << address;
  }
  for (const char* address :
       {"", "128.0.0.1", "126.255.255.255", "10.0.0.1", "0.0.0.0", "::", "::2", "::ffff:128.0.0.1",
        "::127.0.0.1", "localhost", "127.0.0.1.evil.example", "127.1", "127.0.0.1:80", "[::1]",
        "2001:db8::1", "unixx"}) {
    EXPECT_FALSE(IsLoopbackAddress(address)) << address;
  }
}

}  // namespace
}  // namespace moed
