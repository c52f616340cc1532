#include "server/security/certificate_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/security/certificate_watcher.h"
#include "tests/server/security/test_certificates.h"

namespace moed {
namespace {

using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

class CertificateStoreTest : public ::testing::Test {
 protected:
  void Write(const TestCertificate& pair) {
    directory_.Write("cert.pem", pair.certificate_pem);
    directory_.Write("key.pem", pair.key_pem);
  }

  CertificatePaths Paths(bool with_client_ca = false) const {
    return {directory_.Path("cert.pem"), directory_.Path("key.pem"),
            with_client_ca ? directory_.Path("ca.pem") : ""};
  }

  std::string ErrorOfLoad(bool with_client_ca = false) const {
    return std::string(CertificateStore::Load(Paths(with_client_ca)).status().message());
  }

  TestDirectory directory_;
  TestAuthority authority_{"authority"};
};

TEST_F(CertificateStoreTest, LoadsAPairAndKnowsItsEnd) {
  Write(authority_.Issue("server", {seconds(-60), seconds(7200)}));
  directory_.Write("ca.pem", authority_.certificate_pem());
  const auto store = CertificateStore::Load(Paths(true));
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ((*store)->current().client_ca_pem, authority_.certificate_pem());
  EXPECT_TRUE((*store)->wants_client_certificates());
  const auto left = (*store)->expires_at() - std::chrono::system_clock::now();
  EXPECT_GT(left, seconds(7000));
  EXPECT_LE(left, seconds(7200));
}

TEST_F(CertificateStoreTest, NamesTheFileAndWhatIsWrong) {
  const TestCertificate good = authority_.Issue("server");
  const TestCertificate other = authority_.Issue("other");
  const auto in = [](const char* file) { return HasSubstr(absl::StrCat(file, ": ")); };

  directory_.Write("key.pem", good.key_pem);
  EXPECT_THAT(ErrorOfLoad(), AllOf(in("cert.pem"), HasSubstr("cannot be read")));
  directory_.Write("cert.pem", "no PEM");
  EXPECT_THAT(ErrorOfLoad(), AllOf(in("cert.pem"), HasSubstr("holds no PEM certificate")));
  directory_.Write("cert.pem", good.certificate_pem + good.certificate_pem.substr(0, 200));
  EXPECT_THAT(ErrorOfLoad(), AllOf(in("cert.pem"), HasSubstr("certificate 2 does not parse")));
  directory_.Write("cert.pem", good.certificate_pem);
  directory_.Write("key.pem", "no PEM");
  EXPECT_THAT(ErrorOfLoad(), AllOf(in("key.pem"), HasSubstr("holds no PEM private key")));
  directory_.Write("key.pem", other.key_pem);
  EXPECT_THAT(ErrorOfLoad(), AllOf(in("key.pem"), HasSubstr("does not belong")));
  directory_.Write("key.pem", EncryptKey(good.key_pem));
  EXPECT_THAT(ErrorOfLoad(), AllOf(in("key.pem"), HasSubstr("passphrase")));
  directory_.Write("key.pem", good.key_pem);
  directory_.Write("ca.pem", "");
  EXPECT_THAT(ErrorOfLoad(true), AllOf(in("ca.pem"), HasSubstr("holds no PEM certificate")));
  EXPECT_EQ(ErrorOfLoad(), "");
}

TEST_F(CertificateStoreTest, RefusesWhatIsNotValidNow) {
  Write(authority_.Issue("server", {seconds(-7200), seconds(-1)}));
  EXPECT_THAT(ErrorOfLoad(), HasSubstr("cert.pem: has expired"));
  Write(authority_.Issue("server", {seconds(60), seconds(7200)}));
  EXPECT_THAT(ErrorOfLoad(), HasSubstr("cert.pem: is not valid yet"));
}

TEST_F(CertificateStoreTest, TellsListenersOfANewPairOnce) {
  Write(authority_.Issue("server"));
  const auto store = CertificateStore::Load(Paths());
  ASSERT_TRUE(store.ok()) << store.status();
  std::vector<Certificates> told;
  (*store)->OnChange([&told](const Certificates& certificates) { told.push_back(certificates); });
  const uint64_t version = (*store)->version();
  EXPECT_EQ((*store)->Reload(), absl::StatusOr<bool>(false));
  const TestCertificate next = authority_.Issue("next");
  Write(next);
  EXPECT_EQ((*store)->Reload(), absl::StatusOr<bool>(true));
  EXPECT_EQ((*store)->Reload(), absl::StatusOr<bool>(false));
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].certificate_pem, next.certificate_pem);
  EXPECT_EQ((*store)->current(), told[0]);
  EXPECT_EQ((*store)->version(), version + 1);
}

TEST_F(CertificateStoreTest, HalfOfANewPairLeavesTheOldOne) {
  Write(authority_.Issue("server"));
  const auto store = CertificateStore::Load(Paths());
  ASSERT_TRUE(store.ok()) << store.status();
  const Certificates old = (*store)->current();
  const TestCertificate next = authority_.Issue("next");
  directory_.Write("cert.pem", next.certificate_pem);
  EXPECT_EQ((*store)->Reload().status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ((*store)->current(), old);
  directory_.Write("key.pem", next.key_pem);
  EXPECT_EQ((*store)->Reload(), absl::StatusOr<bool>(true));
  EXPECT_EQ((*store)->current().key_pem, next.key_pem);
}

TEST_F(CertificateStoreTest, AnExpiredSuccessorLeavesTheOldOne) {
  Write(authority_.Issue("server"));
  const auto store = CertificateStore::Load(Paths());
  ASSERT_TRUE(store.ok()) << store.status();
  const Certificates old = (*store)->current();
  Write(authority_.Issue("late", {seconds(-7200), seconds(-1)}));
  EXPECT_FALSE((*store)->Reload().ok());
  EXPECT_EQ((*store)->current(), old);
}

TEST_F(CertificateStoreTest, TheWatcherFindsANewPairByItself) {
  Write(authority_.Issue("server"));
  const auto store = CertificateStore::Load(Paths());
  ASSERT_TRUE(store.ok()) << store.status();
  Mutex mutex;
  CondVar changed;
  bool told = false;
  CertificateWatcher watcher(*store, std::chrono::milliseconds(1),
                             {[&] {
                                MutexLock lock(mutex);
                                told = true;
                                changed.NotifyAll();
                              },
                              [](const absl::Status&, bool) {}});
  const TestCertificate next = authority_.Issue("next");
  Write(next);
  MutexLock lock(mutex);
  const auto deadline = std::chrono::steady_clock::now() + seconds(60);
  while (!told) ASSERT_TRUE(changed.WaitUntil(mutex, deadline));
  EXPECT_EQ((*store)->current().certificate_pem, next.certificate_pem);
}

TEST_F(CertificateStoreTest, TheWatcherSaysWhichFailuresAreNew) {
  Write(authority_.Issue("server"));
  const auto store = CertificateStore::Load(Paths());
  ASSERT_TRUE(store.ok()) << store.status();
  std::vector<std::string> events;
  CertificateWatcher watcher(*store, std::chrono::hours(1),
                             {[&] { events.emplace_back("changed"); },
                              [&](const absl::Status&, bool repeated) {
                                events.emplace_back(repeated ? "again" : "failed");
                              }});
  watcher.Check();
  EXPECT_TRUE(events.empty());
  directory_.Write("cert.pem", "broken");
  watcher.Check();
  watcher.Check();
  directory_.Write("cert.pem", authority_.Issue("half").certificate_pem);
  watcher.Check();
  Write(authority_.Issue("whole"));
  watcher.Check();
  // As before the change: it is new all the same.
  directory_.Write("cert.pem", authority_.Issue("half").certificate_pem);
  watcher.Check();
  EXPECT_THAT(events, ::testing::ElementsAre("failed", "again", "failed", "changed", "failed"));
}

}  // namespace
}  // namespace moed
