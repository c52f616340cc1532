#include "server/http/admin_pages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "tests/server/security/test_certificates.h"
#include "tests/server/support/fake_engine.h"
#include "tests/server/support/served_models.h"

namespace moed {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

constexpr char kRemote[] = "192.0.2.7";
const char* const kDataRoutes[] = {"/",           "/app.js",  "/app.css",
                                   "/api/status", "/metrics", "/metrics/experts"};
const char* const kProbes[] = {"/livez", "/readyz", "/startupz"};

std::string HashOf(const std::string& key) {
  unsigned char hash[32];
  EVP_Digest(key.data(), key.size(), hash, nullptr, EVP_sha256(), nullptr);
  return absl::BytesToHexString(std::string(reinterpret_cast<char*>(hash), sizeof(hash)));
}

class AdminPagesTest : public ::testing::Test {
 protected:
  AdminPages Pages() const {
    AdminPageSources sources;
    sources.state = &state_;
    sources.lifecycle = &lifecycle_;
    sources.authenticator = authenticator_.get();
    sources.metrics = [] { return "moed_ready 1\n"; };
    sources.expert_metrics = [] { return "moed_expert_tokens_total 2\n"; };
    sources.acceptor_silence = [this] { return silence_; };
    return AdminPages(std::move(sources));
  }
  HttpResponse Get(const std::string& path, const std::string& query = "") const {
    return Pages().Handle({.method = "GET", .path = path, .query = query, .peer_address = kRemote});
  }
  HttpResponse GetWithKey(const std::string& path, const std::string& key) const {
    return Pages().Handle({.method = "GET",
                           .path = path,
                           .peer_address = kRemote,
                           .authorization = absl::StrCat("Bearer ", key)});
  }

  void UseKeys() {
    auto keys = KeyRing::Load(
        directory_.Write("keys", absl::StrCat("user u sha256:", HashOf("user-key"),
                                              "\nmonitor m sha256:", HashOf("monitor-key"), "\n")));
    ASSERT_TRUE(keys.ok()) << keys.status();
    authenticator_ = std::make_unique<Authenticator>(*keys);
  }

  void Load(int rank, const char* phase, double fraction) {
    lifecycle_.ReportLoad({.rank = rank, .phase = phase, .fraction = fraction});
  }
  void Serve() {
    lifecycle_.Enter(LifecyclePhase::kReady);
    state_.SetServing({.model = MakeServedModel(), .engine = engine_});
  }
  void SetTurnAge(std::chrono::seconds age) {
    EngineStats stats;
    stats.turn_age = age;
    engine_->SetStats(stats);
  }

  TestDirectory directory_;
  ServingState state_;
  Lifecycle lifecycle_;
  std::chrono::milliseconds silence_{0};
  std::unique_ptr<Authenticator> authenticator_ = std::make_unique<Authenticator>(nullptr);
  const std::shared_ptr<FakeEngine> engine_ = std::make_shared<FakeEngine>();
};

TEST_F(AdminPagesTest, LivenessDoesNotDependOnLoadingLoadOrDraining) {
  EXPECT_EQ(Get("/livez").status, 200);
  Serve();
  EngineStats stats;
  stats.requests_waiting = 100'000;
  stats.fault = absl::UnavailableError("rank 1 has failed");
  engine_->SetStats(stats);
  EXPECT_EQ(Get("/livez").status, 200);
  lifecycle_.Enter(LifecyclePhase::kDraining);
  EXPECT_EQ(Get("/livez").status, 200);
  state_.Close("stopping");
  EXPECT_EQ(Get("/livez").status, 200);
}

TEST_F(AdminPagesTest, LivenessEndsWithATurnThatHangs) {
  Serve();
  SetTurnAge(std::chrono::seconds(59));
  EXPECT_EQ(Get("/livez").status, 200);
  SetTurnAge(std::chrono::seconds(61));
  EXPECT_EQ(Get("/livez").status, 503);
}

TEST_F(AdminPagesTest, LivenessEndsWithAnAcceptorThatHangs) {
  silence_ = std::chrono::milliseconds(10'000);
  EXPECT_EQ(Get("/livez").status, 200);
  silence_ = std::chrono::milliseconds(10'001);
  EXPECT_EQ(Get("/livez").status, 503);
}

TEST_F(AdminPagesTest, ReadinessSaysWhyNot) {
  Load(0, "expert weights", 0.5);
  HttpResponse response = Get("/readyz");
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.body, "loading: 57 %\n");
  Serve();
  EXPECT_EQ(Get("/readyz").status, 200);
  EXPECT_EQ(Get("/readyz").body, "ready\n");
  lifecycle_.Enter(LifecyclePhase::kDraining);
  response = Get("/readyz");
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.body, "draining\n");
}

TEST_F(AdminPagesTest, ReadinessEndsWithAFaultAndDoesNotTellIt) {
  Serve();
  EngineStats stats;
  stats.fault = absl::UnavailableError("rank 1 at 10.0.0.3");
  engine_->SetStats(stats);
  EXPECT_EQ(Get("/readyz").status, 503);
  EXPECT_EQ(Get("/readyz").body, "a rank has failed\n");
}

TEST_F(AdminPagesTest, StartupTellsHowFarEachRankIs) {
  Load(1, "replicated weights", 0.5);
  Load(0, "kv cache", 1);
  const HttpResponse loading = Get("/startupz");
  EXPECT_EQ(loading.status, 503);
  EXPECT_EQ(Json::parse(loading.body), Json::parse(R"({"phase": "loading", "percent": 10, "ranks": [
              {"rank": 0, "phase": "kv cache", "percent": 100},
              {"rank": 1, "phase": "replicated weights", "percent": 50}]})"));
  Serve();
  EXPECT_EQ(Get("/startupz").status, 200);
  EXPECT_EQ(Json::parse(Get("/startupz").body)["percent"], 100);
  lifecycle_.Enter(LifecyclePhase::kDraining);
  EXPECT_EQ(Get("/startupz").status, 200);
  lifecycle_.Enter(LifecyclePhase::kFailed);
  EXPECT_EQ(Get("/startupz").status, 503);
}

TEST_F(AdminPagesTest, MetricsAreWhatTheirSourcesSay) {
  EXPECT_EQ(Get("/metrics").body, "moed_ready 1\n");
  EXPECT_EQ(Get("/metrics").content_type, "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_EQ(Get("/metrics/experts").body, "moed_expert_tokens_total 2\n");
}

TEST_F(AdminPagesTest, ThePageMayLoadNothingFromElsewhere) {
  for (const char* path : {"/", "/app.js", "/app.css"}) {
    const HttpResponse response = Get(path);
    EXPECT_EQ(response.status, 200);
    EXPECT_FALSE(response.body.empty());
    EXPECT_THAT(response.headers, ::testing::Contains(::testing::Pair(
                                      "Content-Security-Policy",
                                      HasSubstr("default-src 'none'; script-src 'self'"))));
    EXPECT_THAT(response.body, Not(HasSubstr("https://")));
  }
  EXPECT_EQ(Get("/").content_type, "text/html; charset=utf-8");
}

TEST_F(AdminPagesTest, OtherPathsAreNotFoundAndNoFileIsEverRead) {
  for (const char* path :
       {"/nothing", "/../etc/passwd", "/app.js/", "/livez/", "//", "*", "/page/app.js", "/LIVEZ"}) {
    EXPECT_EQ(Get(path).status, 404) << path;
  }
}

TEST_F(AdminPagesTest, OnlyReadingIsAllowed) {
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"}) {
    const HttpResponse response = Pages().Handle({.method = method, .path = "/livez"});
    EXPECT_EQ(response.status, 405) << method;
    EXPECT_THAT(response.headers, ElementsAre(::testing::Pair("Allow", "GET, HEAD")));
  }
  EXPECT_EQ(Pages().Handle({.method = "HEAD", .path = "/livez"}).status, 200);
}

TEST_F(AdminPagesTest, WithoutKeysEverythingIsOpen) {
  for (const char* path : kDataRoutes) EXPECT_EQ(Get(path).status, 200) << path;
}

TEST_F(AdminPagesTest, WithKeysDataNeedsOneAndProbesDoNot) {
  UseKeys();
  Serve();
  for (const char* path : kDataRoutes) {
    const HttpResponse missing = Get(path);
    EXPECT_EQ(missing.status, 401) << path;
    EXPECT_THAT(missing.headers,
                ElementsAre(::testing::Pair("WWW-Authenticate", "Basic realm=\"moed\""),
                            ::testing::Pair("WWW-Authenticate", "Bearer realm=\"moed\"")));
    EXPECT_EQ(GetWithKey(path, "wrong").status, 401) << path;
    EXPECT_EQ(GetWithKey(path, "user-key").status, 403) << path;
    EXPECT_EQ(GetWithKey(path, "monitor-key").status, 200) << path;
  }
  for (const char* path : kProbes) EXPECT_EQ(Get(path).status, 200) << path;
}

TEST_F(AdminPagesTest, RefusalsTellNeitherAddressNorKey) {
  UseKeys();
  for (const std::string& body :
       {Get("/").body, GetWithKey("/", "wrong").body, GetWithKey("/", "user-key").body}) {
    EXPECT_THAT(body, Not(HasSubstr(kRemote)));
    EXPECT_THAT(body, Not(HasSubstr("wrong")));
    EXPECT_THAT(body, Not(HasSubstr(directory_.Path(""))));
  }
}

class StatusTest : public AdminPagesTest {
 protected:
  StatusTest() {
    const TimePoint now = std::chrono::steady_clock::now();
    auto ledger = RoutingLedger::Create(
        {.num_ranks = 1, .num_layers = 2, .num_experts = 4, .experts_per_token = 2},
        now - std::chrono::minutes(10));
    EXPECT_TRUE(ledger.ok());
    // Long ago everything went to the last experts, lately to the first.
    EXPECT_TRUE(
        (*ledger)->Add({Step({0, 0, 5, 5, 0, 0, 0, 10})}, now - std::chrono::minutes(9)).ok());
    EXPECT_TRUE((*ledger)->Add({Step({6, 1, 1, 0, 0, 0, 0, 0})}, now).ok());
    engine_->SetRouting(*std::move(ledger));
    EngineStats stats;
    stats.requests_waiting = 3;
    stats.requests_running = 2;
    stats.total_kv_blocks = {100};
    stats.free_kv_blocks = {60};
    stats.cached_kv_blocks = {10};
    stats.counters.steps = 7;
    stats.counters.prompt_tokens = 11;
    stats.steps.Add(StepPhase::kDecode, std::chrono::milliseconds(5), 42);
    engine_->SetStats(stats);
  }

  static RankResult Step(std::vector<int64_t> expert_counts) {
    RankResult result;
    result.expert_counts = std::move(expert_counts);
    result.repetition = {.num_rows = 4, .same_first = {1, 0}, .any_shared = {2, 0}};
    result.compute_seconds = 0.5;
    result.collective_wait_seconds = 0.25;
    return result;
  }

  Json Status(const std::string& query = "") const {
    const HttpResponse response = Get("/api/status", query);
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.content_type, "application/json; charset=utf-8");
    return Json::parse(response.body);
  }
};

TEST_F(StatusTest, WhileLoadingThereIsNoModel) {
  Load(0, "expert weights", 0.5);
  const Json status = Status();
  EXPECT_EQ(status["phase"], "loading");
  EXPECT_EQ(status["load"]["percent"], 57);
  EXPECT_EQ(status["load"]["ranks"][0]["phase"], "expert weights");
  EXPECT_FALSE(status.contains("model"));
}

TEST_F(StatusTest, ToldAreModelRequestsAndRanks) {
  Serve();
  const Json status = Status();
  EXPECT_EQ(status["phase"], "ready");
  EXPECT_EQ(status["model"]["name"], "test-model");
  EXPECT_EQ(status["model"]["experts"], 4);
  EXPECT_EQ(status["requests"], Json::parse(R"({"waiting": 3, "running": 2})"));
  EXPECT_EQ(status["counters"]["computed_tokens"], 42);
  EXPECT_EQ(status["counters"]["prompt_tokens"], 11);
  ASSERT_EQ(status["ranks"].size(), 1U);
  EXPECT_EQ(status["ranks"][0]["kv_blocks"],
            Json::parse(R"({"total": 100, "free": 60, "cached": 10})"));
  EXPECT_EQ(status["ranks"][0]["compute_seconds"], 1.0);
  EXPECT_EQ(status["ranks"][0]["wait_seconds"], 0.5);
}

TEST_F(StatusTest, ExpertLoadIsOfTheWindowThatIsAskedFor) {
  Serve();
  const Json recent = Status()["experts"];
  EXPECT_EQ(recent["window_seconds"], 60);
  EXPECT_EQ(recent["layers"][0]["tokens"], Json({6, 1, 1, 0}));
  EXPECT_EQ(recent["layers"][0]["max_over_mean"], 3.0);
  EXPECT_EQ(recent["layers"][0]["dead"], 1);
  EXPECT_EQ(recent["layers"][0]["repetition"]["first"], 0.25);
  EXPECT_EQ(recent["layers"][1]["tokens"], Json({0, 0, 0, 0}));
  const Json all = Status("window=all")["experts"];
  EXPECT_TRUE(all["window_seconds"].is_null());
  EXPECT_EQ(all["layers"][0]["tokens"], Json({6, 1, 6, 5}));
  EXPECT_EQ(Status("x=1&window=3600")["experts"]["layers"][1]["tokens"], Json({0, 0, 0, 10}));
}

TEST_F(StatusTest, OtherWindowsAreRefused) {
  Serve();
  for (const char* query : {"window=", "window=0", "window=-1", "window=3601", "window=1e3",
                            "window=60x", "window=99999999999999999999"}) {
    EXPECT_EQ(Get("/api/status", query).status, 400) << query;
  }
}

}  // namespace
}  // namespace moed
