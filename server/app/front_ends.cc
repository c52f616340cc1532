#include "server/app/front_ends.h"

#include <chrono>
#include <cmath>
#include <random>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/core/status.h"
#include "server/admission/client_limiter.h"
#include "server/admission/request_validator.h"
#include "server/app/access_log.h"
#include "server/http/admin_pages.h"
#include "server/http/http_server.h"
#include "server/metrics/metrics.h"
#include "server/observe/observer_list.h"
#include "server/rpc/grpc_server.h"
#include "server/security/authenticator.h"
#include "server/security/certificate_store.h"
#include "server/security/certificate_watcher.h"
#include "server/security/key_ring.h"

namespace moed {
namespace {

// What a turn of the engine may take beyond the ranks' own timeout before /livez calls it hung.
constexpr std::chrono::seconds kTurnGrace{30};
constexpr std::chrono::seconds kCertificateInterval{2};

uint64_t RandomBits() {
  thread_local std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

std::chrono::milliseconds Milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(std::ceil(seconds * 1000)));
}

absl::StatusOr<std::shared_ptr<KeyRing>> LoadKeys(const DaemonOptions& options) {
  if (options.key_file.empty()) return std::shared_ptr<KeyRing>();
  return KeyRing::Load(options.key_file);
}

absl::StatusOr<std::shared_ptr<CertificateStore>> LoadCertificates(const DaemonOptions& options) {
  if (options.tls_certificate.empty()) return std::shared_ptr<CertificateStore>();
  return CertificateStore::Load({.certificate = options.tls_certificate,
                                 .key = options.tls_key,
                                 .client_ca = options.tls_client_ca});
}

double UnixSeconds(std::chrono::system_clock::time_point time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

}  // namespace

// In the order in which they are needed: destruction runs backwards.
struct FrontEnds::Impl {
  Impl(const DaemonOptions& options, const FrontEndParts& parts, std::shared_ptr<KeyRing> key_ring,
       std::shared_ptr<CertificateStore> store)
      : parts(parts),
        keys(std::move(key_ring)),
        certificates(std::move(store)),
        authenticator(keys),
        limiter(options.limits.requests_per_client),
        validator(options.limits, RandomBits),
        metrics({.state = parts.state, .lifecycle = parts.lifecycle, .version = MOED_VERSION}),
        access_log(parts.log),
        observers(options.access_log ? std::vector<RequestObserver*>{&metrics, &access_log}
                                     : std::vector<RequestObserver*>{&metrics}) {}

  absl::Status Listen(const DaemonOptions& options);
  absl::Status ListenForGrpc(const DaemonOptions& options);
  absl::Status ListenForAdmin(const DaemonOptions& options);
  void WatchCertificates();

  const FrontEndParts parts;
  const std::shared_ptr<KeyRing> keys;
  const std::shared_ptr<CertificateStore> certificates;
  const Authenticator authenticator;
  ClientLimiter limiter;
  const RequestValidator validator;
  Metrics metrics;
  AccessLog access_log;
  ObserverList observers;
  std::vector<int> no_ports;
  std::unique_ptr<GrpcServer> grpc;
  std::unique_ptr<AdminPages> pages;
  std::unique_ptr<HttpServer> http;
  std::unique_ptr<CertificateWatcher> watcher;  // null: no TLS
};

absl::Status FrontEnds::Impl::Listen(const DaemonOptions& options) {
  MOED_RETURN_IF_ERROR(ListenForGrpc(options));
  return ListenForAdmin(options);
}

absl::Status FrontEnds::Impl::ListenForGrpc(const DaemonOptions& options) {
  GrpcServerOptions server;
  server.listen = options.listen;
  server.reflection = options.grpc_reflection || AllLoopback(options.listen);
  server.stream_buffer_bytes = options.stream_buffer_bytes;
  server.slow_reader_timeout = Milliseconds(options.slow_reader_timeout_seconds);
  server.max_connections = options.max_connections;
  server.keepalive = Milliseconds(options.keepalive_seconds);
  server.max_connection_age = Milliseconds(options.max_connection_age_seconds);
  server.max_metadata_bytes = options.max_metadata_bytes;
  MOED_ASSIGN_OR_RETURN(grpc, GrpcServer::Start(server, {.state = parts.state,
                                                         .lifecycle = parts.lifecycle,
                                                         .validator = &validator,
                                                         .authenticator = &authenticator,
                                                         .observer = &observers,
                                                         .limiter = &limiter,
                                                         .admin = parts.admin,
                                                         .certificates = certificates,
                                                         .on_connection_waits = [this] {
                                                           metrics.OnConnectionWaits();
                                                         }}));
  return absl::OkStatus();
}

absl::Status FrontEnds::Impl::ListenForAdmin(const DaemonOptions& options) {
  AdminPageSources sources;
  sources.state = parts.state;
  sources.lifecycle = parts.lifecycle;
  sources.authenticator = &authenticator;
  sources.metrics = [this] { return metrics.Page(); };
  sources.expert_metrics = [this] { return metrics.ExpertsPage(); };
  sources.acceptor_silence = [this] { return grpc->accept_silence(); };
  sources.max_turn = Milliseconds(options.rank_timeout_seconds) + kTurnGrace;
  pages = std::make_unique<AdminPages>(std::move(sources));
  if (options.admin_listen.empty()) return absl::OkStatus();
  HttpServerOptions server;
  server.listen = options.admin_listen;
  if (options.admin_tls) server.certificates = certificates;
  MOED_ASSIGN_OR_RETURN(http, HttpServer::Start(server, [this](const HttpRequest& request) {
                          return pages->Handle(request);
                        }));
  return absl::OkStatus();
}

void FrontEnds::Impl::WatchCertificates() {
  if (certificates == nullptr) return;
  metrics.SetCertificateExpiry(UnixSeconds(certificates->expires_at()));
  CertificateWatcherHooks hooks;
  hooks.on_changed = [this] {
    metrics.OnReload("certificates", true);
    metrics.SetCertificateExpiry(UnixSeconds(certificates->expires_at()));
    parts.log->Info("new certificates are in use");
  };
  hooks.on_failure = [this](const absl::Status& problem, bool repeated) {
    metrics.OnReload("certificates", false);
    if (repeated) return;
    parts.log->Error(absl::StrCat("the certificates stay as they were: ", problem.message()));
  };
  watcher =
      std::make_unique<CertificateWatcher>(certificates, kCertificateInterval, std::move(hooks));
}

absl::StatusOr<std::unique_ptr<FrontEnds>> FrontEnds::Start(const DaemonOptions& options,
                                                            const FrontEndParts& parts) {
  MOED_ASSIGN_OR_RETURN(std::shared_ptr<KeyRing> keys, LoadKeys(options));
  MOED_ASSIGN_OR_RETURN(std::shared_ptr<CertificateStore> certificates, LoadCertificates(options));
  auto impl = std::make_unique<Impl>(options, parts, std::move(keys), std::move(certificates));
  MOED_RETURN_IF_ERROR(impl->Listen(options));
  impl->WatchCertificates();
  return std::unique_ptr<FrontEnds>(new FrontEnds(std::move(impl)));
}

FrontEnds::FrontEnds(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

FrontEnds::~FrontEnds() {
  if (impl_->http != nullptr) impl_->http->Shutdown();
  StopGrpc(absl::ZeroDuration());
}

const std::vector<int>& FrontEnds::grpc_ports() const { return impl_->grpc->ports(); }

const std::vector<int>& FrontEnds::admin_ports() const {
  return impl_->http != nullptr ? impl_->http->ports() : impl_->no_ports;
}

bool FrontEnds::IsAlive() const {
  return impl_->pages->Handle({.method = "GET", .path = "/livez"}).status == 200;
}

void FrontEnds::SetServing(bool serving) { impl_->grpc->SetServing(serving); }

void FrontEnds::StopGrpc(absl::Duration grace) { impl_->grpc->Shutdown(grace); }

void FrontEnds::Reload() {
  if (impl_->keys != nullptr) {
    const absl::Status status = impl_->keys->Reload();
    impl_->metrics.OnReload("keys", status.ok());
    if (status.ok()) {
      impl_->parts.log->Info(absl::StrCat("read ", impl_->keys->size(), " keys"));
    } else {
      impl_->parts.log->Error(absl::StrCat("the keys stay as they were: ", status.message()));
    }
  }
  if (impl_->watcher != nullptr) impl_->watcher->Check();
}

}  // namespace moed
