#include "server/admission/client_limiter.h"

#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "server/errors/error_details.h"

namespace moed {
namespace {

TEST(ClientLimiterTest, AClientHasAsManyPlacesAsTheLimit) {
  ClientLimiter limiter(2);
  auto first = limiter.Enter("alice");
  const auto second = limiter.Enter("alice");
  EXPECT_TRUE(first.ok() && second.ok());
  const absl::Status third = limiter.Enter("alice").status();
  EXPECT_EQ(third.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(third), "CLIENT_LIMIT");
  EXPECT_TRUE(RetryAfter(third).has_value());
  EXPECT_TRUE(limiter.Enter("bob").ok());
  { const ClientLimiter::Place given_back = *std::move(first); }
  EXPECT_TRUE(limiter.Enter("alice").ok());
}

TEST(ClientLimiterTest, ForgetsClientsWithoutAPlace) {
  ClientLimiter limiter(1);
  {
    auto place = limiter.Enter("alice");
    EXPECT_FALSE(limiter.Enter("alice").ok());
    EXPECT_EQ(limiter.num_clients(), 1U);
    ClientLimiter::Place moved = *std::move(place);
    ClientLimiter::Place target;
    target = std::move(moved);
    EXPECT_EQ(limiter.num_clients(), 1U);
  }
  EXPECT_EQ(limiter.num_clients(), 0U);
}

TEST(ClientLimiterTest, ZeroIsNoLimit) {
  ClientLimiter limiter(0);
  std::vector<ClientLimiter::Place> places;
  for (int i = 0; i < 1000; ++i) places.push_back(limiter.Enter("alice").value());
  EXPECT_EQ(limiter.num_clients(), 0U);
}

TEST(ClientLimiterTest, NeverMoreThanTheLimitFromAllThreads) {
  ClientLimiter limiter(3);
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        const auto place = limiter.Enter("alice");
        if (!place.ok()) continue;
        const int now = ++inside;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        --inside;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(most, 1);
  EXPECT_LE(most, 3);
  EXPECT_EQ(limiter.num_clients(), 0U);
}

}  // namespace
}  // namespace moed
