#include "server/app/daemon.h"

#include <chrono>
#include <cmath>
#include <csignal>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "kernels/core/status.h"
#include "server/app/exit_code.h"
#include "server/app/load_reporter.h"
#include "server/app/model_start.h"

namespace moed {
namespace {

using std::chrono::steady_clock;

// How long a signal waits for loading to stop before the process ends under it.
constexpr std::chrono::seconds kCancelLoadTimeout{4};
// How long a drain waits between looks at what still runs.
constexpr std::chrono::milliseconds kDrainInterval{20};
// How long the end waits for a running step after a second signal, and for the ranks after a fault.
constexpr std::chrono::milliseconds kSecondSignalPatience{500};
constexpr std::chrono::milliseconds kFaultPatience{2000};
// For what has ended in the engine but not yet reached its client.
constexpr absl::Duration kFlushGrace = absl::Seconds(2);

std::string Text(const absl::Status& status) { return std::string(status.message()); }

}  // namespace

Daemon::Daemon(const DaemonOptions& options, Log* log,
               std::function<ParsedCommandLine()> read_again)
    : options_(options),
      log_(log),
      read_again_(std::move(read_again)),
      service_manager_(ServiceManagerSettings::FromEnvironment()),
      signals_([this](int number) { OnSignal(number); }) {}

Daemon::~Daemon() {
  cancel_load_ = true;
  if (loader_.joinable()) loader_.join();
}

void Daemon::OnSignal(int number) {
  if (number == SIGHUP) {
    Reload();
  } else {
    events_.PostSignal();
  }
}

void Daemon::Reload() {
  log_->Info("SIGHUP: reading keys, certificates and the log level again");
  Told(service_manager_.Reloading());
  ReloadLogLevel();
  {
    MutexLock lock(reload_mutex_);
    if (reloadable_ != nullptr) reloadable_->Reload();
  }
  if (lifecycle_.phase() == LifecyclePhase::kReady) Told(service_manager_.Ready("serving"));
}

void Daemon::ReloadLogLevel() {
  const ParsedCommandLine settings = read_again_();
  if (!settings.run) {
    log_->Error(absl::StrCat("the log level stays as it was: ", settings.text));
    return;
  }
  const absl::Status status = SetLogLevel(settings.options.log_level);
  if (!status.ok()) log_->Error(Text(status));
}

void Daemon::Told(const absl::Status& status) {
  if (!status.ok()) log_->Warning(absl::StrCat("the service manager: ", Text(status)));
}

void Daemon::BeginDrain(std::optional<std::chrono::milliseconds> timeout) {
  events_.PostDrain(timeout);
}

absl::Status Daemon::SetLogLevel(absl::string_view level) {
  MOED_ASSIGN_OR_RETURN(const LogLevel parsed, ParseLogLevel(level));
  log_->SetLevel(parsed);
  return absl::OkStatus();
}

int Daemon::Run(bool* must_exit_now) {
  *must_exit_now = false;
  const absl::Status listening = Listen();
  if (!listening.ok()) {
    log_->Error(Text(listening));
    return ExitCodeOf(listening.code());
  }
  const auto begin = steady_clock::now();
  loader_ = std::thread([this] { Load(); });
  events_.WaitForStartOrSignal();
  if (!events_.started()) return EndWhileLoading(must_exit_now);
  loader_.join();
  absl::StatusOr<Serving> started = events_.TakeStarted();
  if (!started.ok()) {
    log_->Error(absl::StrCat("the model cannot be served: ", Text(started.status())));
    Close();
    front_ends_->StopGrpc(absl::ZeroDuration());
    return ExitCodeOf(started.status().code());
  }
  const std::chrono::duration<double> took = steady_clock::now() - begin;
  log_->Info(absl::StrFormat("ready after %.1f s", took.count()));
  return Serve(*std::move(started), must_exit_now);
}

absl::Status Daemon::Listen() {
  MOED_ASSIGN_OR_RETURN(
      front_ends_,
      FrontEnds::Start(options_,
                       {.state = &state_, .lifecycle = &lifecycle_, .admin = this, .log = log_}));
  {
    MutexLock lock(reload_mutex_);
    reloadable_ = front_ends_.get();
  }
  LogAddresses("gRPC", options_.listen, front_ends_->grpc_ports());
  LogAddresses("HTTP (probes, metrics, page)", options_.admin_listen, front_ends_->admin_ports());
  return WritePortFile();
}

void Daemon::LogAddresses(absl::string_view what, const std::vector<std::string>& listen,
                          const std::vector<int>& ports) const {
  for (size_t i = 0; i < listen.size(); ++i) {
    log_->Info(absl::StrCat("listening for ", what, " on ",
                            listen[i].substr(0, listen[i].rfind(':')), ":", ports[i]));
  }
}

absl::Status Daemon::WritePortFile() const {
  if (options_.port_file.empty()) return absl::OkStatus();
  // Written whole under another name, so that a reader never sees half of it.
  const std::string partial = options_.port_file + ".partial";
  {
    std::ofstream file(partial);
    for (const int port : front_ends_->grpc_ports()) file << port << "\n";
    for (const int port : front_ends_->admin_ports()) file << port << "\n";
    if (!file.flush()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--port-file: cannot write ", options_.port_file));
    }
  }
  if (std::rename(partial.c_str(), options_.port_file.c_str()) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--port-file: cannot write ", options_.port_file));
  }
  return absl::OkStatus();
}

void Daemon::Load() {
  LoadReporter reporter(log_, &state_);
  std::atomic<int> told_percent{-1};  // the ranks report at the same time
  ModelStartHooks hooks;
  hooks.on_progress = [&](const RankProgress& progress) {
    reporter.Report(progress);
    lifecycle_.ReportLoad(progress);
    const int percent = static_cast<int>(lifecycle_.Snapshot().load_fraction * 100);
    if (told_percent.exchange(percent) != percent) {
      service_manager_.SetStatus(absl::StrCat("loading: ", percent, " %")).IgnoreError();
    }
    return !cancel_load_.load();
  };
  hooks.on_info = [&](absl::string_view line) {
    reporter.EndLiveLine();
    log_->Info(line);
  };
  hooks.on_warning = [&](absl::string_view line) { log_->Warning(line); };
  hooks.on_fault = [this](const absl::Status& fault) { events_.PostFault(fault); };
  state_.SetProgress("the model is loading");
  absl::StatusOr<Serving> serving = StartModel(options_, hooks);
  reporter.EndLiveLine();
  events_.PostStarted(std::move(serving));
}

int Daemon::EndWhileLoading(bool* must_exit_now) {
  log_->Info("stopped by a signal while loading");
  Told(service_manager_.Stopping("stopped while loading"));
  cancel_load_ = true;
  Close();
  front_ends_->StopGrpc(absl::ZeroDuration());
  // Cancelled between tensors; one that takes too long is left behind.
  *must_exit_now = !events_.WaitForStart(steady_clock::now() + kCancelLoadTimeout);
  if (*must_exit_now) log_->Warning("loading does not stop; the process ends under it");
  return kExitOk;
}

int Daemon::Serve(Serving serving, bool* must_exit_now) {
  const std::shared_ptr<Engine> engine = serving.engine;
  state_.SetServing(std::move(serving));
  lifecycle_.Enter(LifecyclePhase::kReady);
  front_ends_->SetServing(true);
  Told(service_manager_.Ready("serving"));
  service_manager_.StartWatchdog([this] { return front_ends_->IsAlive(); });
  events_.WaitForSignalOrFault();
  lifecycle_.Enter(events_.fault().ok() ? LifecyclePhase::kDraining : LifecyclePhase::kFailed);
  front_ends_->SetServing(false);
  Told(service_manager_.Stopping("draining"));
  if (events_.fault().ok()) Drain(engine.get());

  *must_exit_now = !Stop(engine);
  const absl::Status fault = events_.fault();
  if (fault.ok()) {
    if (*must_exit_now) {
      log_->Warning("stopped in the middle of a step");
    } else {
      log_->Info("stopped");
    }
    return kExitOk;
  }
  log_->Error(absl::StrCat("the ranks have failed: ", Text(fault)));
  *must_exit_now = true;  // a rank that hangs has been left with what it uses
  return kExitRankFailed;
}

void Daemon::Close() {
  lifecycle_.Enter(LifecyclePhase::kStopped);
  state_.Close("the server is shutting down");
}

bool Daemon::Stop(const std::shared_ptr<Engine>& engine) {
  std::thread ending([this, engine] {
    engine->Shutdown(absl::UnavailableError("the server is shutting down"));
    front_ends_->StopGrpc(events_.signals() > 1 ? absl::ZeroDuration() : kFlushGrace);
    Close();
    events_.PostStopped();
  });
  const bool stopped = events_.WaitForStopped(kSecondSignalPatience, kFaultPatience);
  if (stopped) {
    ending.join();
  } else {
    ending.detach();
  }
  return stopped;
}

void Daemon::Drain(Engine* engine) {
  const std::chrono::milliseconds configured(
      static_cast<int64_t>(std::ceil(options_.drain_timeout_seconds * 1000)));
  const auto deadline = steady_clock::now() + events_.drain_timeout().value_or(configured);
  engine->BeginDrain();
  const EngineStats stats = engine->Stats();
  log_->Info(absl::StrCat("draining: ", stats.requests_running, " requests run, ",
                          stats.requests_waiting, " wait"));
  while (true) {
    const EngineStats now = engine->Stats();
    if (now.requests_running + now.requests_waiting == 0) return;
    if (steady_clock::now() >= deadline) {
      log_->Warning(absl::StrCat("drain timeout: ", now.requests_running + now.requests_waiting,
                                 " requests are cut off"));
      return;
    }
    if (events_.WaitForHurry(steady_clock::now() + kDrainInterval)) return;
  }
}

}  // namespace moed
