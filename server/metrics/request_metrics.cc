#include "server/metrics/request_metrics.h"

#include <string>

#include "absl/strings/string_view.h"
#include "server/metrics/catalog.h"
#include "server/metrics/counter_family.h"
#include "server/metrics/family_builder.h"
#include "server/metrics/label_text.h"

namespace moed {
namespace {

bool IsGeneration(const RequestRecord& record) {
  const absl::string_view method = record.method;
  return method == "StreamGenerate" || method == "Generate";
}

void AddHistogram(MetricId id, const AtomicHistogram& histogram,
                  std::vector<prometheus::MetricFamily>* families) {
  FamilyBuilder family(id);
  family.AddHistogram({}, histogram.bounds(), histogram.Buckets(), histogram.Sum());
  family.MoveTo(families);
}

double Read(const std::atomic<uint64_t>& counter) { return static_cast<double>(counter.load()); }

}  // namespace

RequestMetrics::RequestMetrics()
    : requests_(AddCounterFamily(MetricId::kRequests, &registry_)),
      rejected_(AddCounterFamily(MetricId::kRequestsRejected, &registry_)),
      calls_(AddCounterFamily(MetricId::kCalls, &registry_)),
      first_token_(kFirstTokenBounds),
      inter_token_(kInterTokenBounds),
      duration_(kRequestDurationBounds),
      queue_(kQueueDurationBounds) {
  // A counter that is there from the start has a rate from its first increment on.
  for (const char* reason : {"stop", "length", "time_limit"}) {
    CounterOf(MetricId::kRequests, {"OK", reason}, &requests_);
  }
}

void RequestMetrics::OnAdmitted() { ++accepted_; }

void RequestMetrics::OnFirstToken(std::chrono::duration<double> since_submit) {
  first_token_.Observe(since_submit.count());
}

void RequestMetrics::OnInterToken(std::chrono::duration<double> each, int32_t tokens) {
  inter_token_.Observe(each.count(), static_cast<uint64_t>(tokens));
}

void RequestMetrics::OnTokens(int32_t tokens) {
  tokens_.fetch_add(static_cast<uint64_t>(tokens), std::memory_order_relaxed);
}

void RequestMetrics::OnEnd(const RequestRecord& record) {
  const std::string code = absl::StatusCodeToString(record.status.code());
  CounterOf(MetricId::kCalls, {record.method, code}, &calls_).Increment();
  if (!IsGeneration(record)) return;
  if (record.admitted) {
    CountAccepted(record);
  } else {
    const std::string reason = ReasonLabel(record.reason.empty() ? code : record.reason);
    CounterOf(MetricId::kRequestsRejected, {reason}, &rejected_).Increment();
  }
}

void RequestMetrics::CountAccepted(const RequestRecord& record) {
  const std::string code = absl::StatusCodeToString(record.status.code());
  const char* const finish_reason = record.status.ok() ? record.finish_reason : "aborted";
  CounterOf(MetricId::kRequests, {code, finish_reason}, &requests_).Increment();
  if (record.client_cancelled) ++client_cancellations_;
  if (record.slow_reader) ++slow_reader_evictions_;
  duration_.Observe(record.total_seconds);
  if (record.status.ok()) queue_.Observe(record.queue_seconds);
}

std::vector<prometheus::MetricFamily> RequestMetrics::Collect() const {
  // Those that ended first: who ends between the two reads was accepted before either.
  std::vector<prometheus::MetricFamily> families = registry_.Collect();
  AddSingle(MetricId::kRequestsAccepted, Read(accepted_), &families);
  AddSingle(MetricId::kGenerationTokens, Read(tokens_), &families);
  AddSingle(MetricId::kClientCancellations, Read(client_cancellations_), &families);
  AddSingle(MetricId::kSlowReaderEvictions, Read(slow_reader_evictions_), &families);
  AddHistogram(MetricId::kTimeToFirstToken, first_token_, &families);
  AddHistogram(MetricId::kInterTokenLatency, inter_token_, &families);
  AddHistogram(MetricId::kRequestDuration, duration_, &families);
  AddHistogram(MetricId::kQueueDuration, queue_, &families);
  return families;
}

}  // namespace moed
