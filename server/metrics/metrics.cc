#include "server/metrics/metrics.h"

#include <prometheus/text_serializer.h>

#include <initializer_list>
#include <iterator>
#include <utility>
#include <vector>

#include "server/metrics/daemon_metrics.h"
#include "server/metrics/engine_collector.h"
#include "server/metrics/expert_collector.h"
#include "server/metrics/process_collector.h"
#include "server/metrics/request_metrics.h"

namespace moed {
namespace {

std::string Serialize(std::initializer_list<const prometheus::Collectable*> collectables) {
  std::vector<prometheus::MetricFamily> families;
  for (const prometheus::Collectable* collectable : collectables) {
    std::vector<prometheus::MetricFamily> more = collectable->Collect();
    families.insert(families.end(), std::make_move_iterator(more.begin()),
                    std::make_move_iterator(more.end()));
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace

struct Metrics::Impl {
  explicit Impl(const MetricSources& sources)
      : engine(sources.state),
        experts(sources.state, sources.now),
        daemon(sources.state, sources.lifecycle, sources.version) {}

  RequestMetrics requests;
  EngineCollector engine;
  ExpertCollector experts;
  DaemonMetrics daemon;
  ProcessCollector process;
};

Metrics::Metrics(const MetricSources& sources) : impl_(std::make_unique<Impl>(sources)) {}
Metrics::~Metrics() = default;

void Metrics::OnAdmitted() { impl_->requests.OnAdmitted(); }
void Metrics::OnFirstToken(std::chrono::duration<double> since_submit) {
  impl_->requests.OnFirstToken(since_submit);
}
void Metrics::OnInterToken(std::chrono::duration<double> each, int32_t tokens) {
  impl_->requests.OnInterToken(each, tokens);
}
void Metrics::OnTokens(int32_t tokens) { impl_->requests.OnTokens(tokens); }
void Metrics::OnEnd(const RequestRecord& record) { impl_->requests.OnEnd(record); }

void Metrics::OnReload(absl::string_view what, bool succeeded) {
  impl_->daemon.OnReload(what, succeeded);
}
void Metrics::OnConnectionWaits() { impl_->daemon.OnConnectionWaits(); }
void Metrics::SetCertificateExpiry(double unix_seconds) {
  impl_->daemon.SetCertificateExpiry(unix_seconds);
}

std::string Metrics::Page() {
  return Serialize({&impl_->requests, &impl_->engine, &impl_->daemon, &impl_->process});
}
std::string Metrics::ExpertsPage() { return Serialize({&impl_->experts}); }

}  // namespace moed
