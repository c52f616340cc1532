// What requests tell while they are served.
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/registry.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

#include "server/metrics/atomic_histogram.h"
#include "server/observe/request_observer.h"

namespace moed {

// Thread-safe. Tokens cost a few atomic additions; only the end of a call takes a lock, of
// prometheus-cpp's families.
class RequestMetrics final : public RequestObserver, public prometheus::Collectable {
 public:
  RequestMetrics();

  void OnAdmitted() override;
  void OnFirstToken(std::chrono::duration<double> since_submit) override;
  void OnInterToken(std::chrono::duration<double> each, int32_t tokens) override;
  void OnTokens(int32_t tokens) override;
  void OnEnd(const RequestRecord& record) override;

  // Never more ended requests than accepted ones.
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  void CountAccepted(const RequestRecord& record);

  prometheus::Registry registry_;
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Counter>& rejected_;
  prometheus::Family<prometheus::Counter>& calls_;
  std::atomic<uint64_t> accepted_ = 0;
  std::atomic<uint64_t> tokens_ = 0;
  std::atomic<uint64_t> client_cancellations_ = 0;
  std::atomic<uint64_t> slow_reader_evictions_ = 0;
  AtomicHistogram first_token_;
  AtomicHistogram inter_token_;
  AtomicHistogram duration_;
  AtomicHistogram queue_;
};

}  // namespace moed
