#include "server/security/key_ring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/server/security/test_certificates.h"

namespace moed {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kSomeHash[] = "4d3f9f24cff5e8e83d00b1f9f0ba6e2cbf8be2dd5e3a4a9f2f7a9a0fcd3b8c11";
constexpr char kOtherHash[] = "0d3f9f24cff5e8e83d00b1f9f0ba6e2cbf8be2dd5e3a4a9f2f7a9a0fcd3b8c11";
// SHA-256 of nothing.
constexpr char kEmptyHash[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
// SHA-256 of "abc", from FIPS 180-2, appendix B.1.
constexpr char kAbcHash[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

std::string Line(const std::string& role, const std::string& name, const std::string& hash) {
  return absl::StrCat(role, " ", name, " sha256:", hash, "\n");
}

TEST(ParseKeyFile, ReadsRolesNamesAndHashes) {
  const auto entries =
      ParseKeyFile(absl::StrCat("# who may what\n\n", Line("user", "team-a", kAbcHash),
                                "\t monitor  prom.1\tsha256:", kSomeHash, "  # scrapes\r\n",
                                "admin root_ sha256:", std::string(64, 'F')));
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 3u);
  EXPECT_EQ((*entries)[0].name, "team-a");
  EXPECT_EQ((*entries)[0].role, Role::kUser);
  EXPECT_EQ((*entries)[0].hash[0], 0xba);
  EXPECT_EQ((*entries)[0].hash[31], 0xad);
  EXPECT_EQ((*entries)[1].name, "prom.1");
  EXPECT_EQ((*entries)[1].role, Role::kMonitor);
  EXPECT_EQ((*entries)[2].role, Role::kAdmin);
  EXPECT_EQ((*entries)[2].hash[15], 0xff);
}

struct BadFile {
  const char* what;
  std::string text;
  const char* error;
};

TEST(ParseKeyFile, NamesTheLineAndNotWhatItHolds) {
  const std::string good = Line("user", "a", kAbcHash);
  const BadFile files[] = {
      {"no key", "# nothing\n", "holds no key"},
      {"empty", "", "holds no key"},
      {"role", good + Line("root", "secret", kSomeHash), "line 2: the role must be"},
      {"capital role", Line("User", "secret", kSomeHash), "line 1: the role must be"},
      {"two fields", "\n\nuser secret\n", "line 3: a line is ROLE NAME sha256:HEX"},
      {"four fields", "user secret sha256:ab cd\n", "line 1: a line is ROLE NAME sha256:HEX"},
      {"name", Line("user", "sec/ret", kSomeHash), "line 1: the name must be"},
      {"long name", Line("user", std::string(65, 'a'), kSomeHash), "line 1: the name must be"},
      {"a key in the clear", "user a secret\n", "line 1: the key must be sha256:"},
      {"short", Line("user", "a", "secret"), "line 1: the key must be sha256:"},
      {"no hex", Line("user", "a", std::string(63, 'a') + "g"), "line 1: the key must be sha256:"},
      {"other hash", absl::StrCat("user a sha512:", kAbcHash), "line 1: the key must be sha256:"},
      {"same name", good + Line("admin", "a", kSomeHash), "line 2: an earlier line has this name"},
      {"same key", good + Line("admin", "b", kAbcHash), "line 2: an earlier line has this key"},
      {"empty key", Line("user", "a", kEmptyHash), "line 1: this is the hash of an empty key"},
  };
  for (const BadFile& file : files) {
    const absl::Status status = ParseKeyFile(file.text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << file.what;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(file.error), Not(HasSubstr("secret"))))
        << file.what;
  }
}

TEST(ParseKeyFile, TakesTheLongestName) {
  EXPECT_TRUE(ParseKeyFile(Line("user", std::string(64, 'a'), kAbcHash)).ok());
}

class KeyRingTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::shared_ptr<KeyRing>> Load() { return KeyRing::Load(directory_.Path("keys")); }

  TestDirectory directory_;
};

TEST_F(KeyRingTest, FindsAKeyByItsText) {
  directory_.Write("keys", Line("user", "other", kSomeHash) + Line("monitor", "team", kAbcHash) +
                               Line("user", "third", kOtherHash));
  const auto keys = Load();
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ((*keys)->size(), 3u);
  const std::optional<Caller> caller = (*keys)->Find("abc");
  ASSERT_TRUE(caller.has_value());
  EXPECT_EQ(caller->client, "team");
  EXPECT_EQ(caller->role, Role::kMonitor);
  for (const char* wrong : {"", "ab", "abcd", "abc ", "Abc", kAbcHash}) {
    EXPECT_FALSE((*keys)->Find(wrong).has_value()) << wrong;
  }
}

TEST_F(KeyRingTest, ReloadExchangesAllKeys) {
  directory_.Write("keys", Line("user", "team", kAbcHash));
  const auto keys = Load();
  ASSERT_TRUE(keys.ok()) << keys.status();
  directory_.Write("keys", Line("user", "team", kSomeHash) + Line("admin", "b", kOtherHash));
  ASSERT_TRUE((*keys)->Reload().ok());
  EXPECT_FALSE((*keys)->Find("abc").has_value());
  EXPECT_EQ((*keys)->size(), 2u);
}

TEST_F(KeyRingTest, ABadFileLeavesTheKeysAsTheyAre) {
  const std::string path = directory_.Write("keys", Line("user", "team", kAbcHash));
  const auto keys = Load();
  ASSERT_TRUE(keys.ok()) << keys.status();
  directory_.Write("keys", Line("admin", "new", kSomeHash) + "broken\n");
  const absl::Status reloaded = (*keys)->Reload();
  EXPECT_EQ(reloaded.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(reloaded.message()), AllOf(HasSubstr(path), HasSubstr("line 2")));
  EXPECT_TRUE((*keys)->Find("abc").has_value());
  EXPECT_EQ((*keys)->size(), 1u);
  ASSERT_EQ(unlink(path.c_str()), 0);
  EXPECT_EQ((*keys)->Reload().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE((*keys)->Find("abc").has_value());
}

TEST_F(KeyRingTest, RefusesAFileThatOthersMayWrite) {
  const std::string path = directory_.Write("keys", Line("user", "team", kAbcHash));
  for (const mode_t mode : {0620, 0602}) {
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
    const auto keys = Load();
    EXPECT_EQ(keys.status().code(), absl::StatusCode::kPermissionDenied) << mode;
    EXPECT_THAT(std::string(keys.status().message()), HasSubstr(path));
  }
  ASSERT_EQ(chmod(path.c_str(), 0644), 0);
  EXPECT_TRUE(Load().ok());
}

TEST_F(KeyRingTest, RefusesWhatIsNoFile) {
  EXPECT_EQ(Load().status().code(), absl::StatusCode::kNotFound);
  const std::string path = directory_.Path("keys");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(Load().status().code(), absl::StatusCode::kInvalidArgument);
  directory_.Write("keys", std::string((1 << 20) + 1, '#'));
  EXPECT_THAT(std::string(Load().status().message()), HasSubstr("larger than 1 MiB"));
}

}  // namespace
}  // namespace moed
