#include "server/app/daemon.h"

#include <chrono>
#include <cmath>
#include <csignal>
#include <fstream>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
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

uint64_t RandomBits() {
  thread_local std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

std::string Text(const absl::Status& status) { return std::string(status.message()); }

}  // namespace

Daemon::Daemon(const DaemonOptions& options, Log* log)
    : options_(options),
      log_(log),
      signals_([this](int number) { OnSignal(number); }),
      validator_(options.limits, RandomBits) {}

Daemon::~Daemon() {
  cancel_load_ = true;
  if (loader_.joinable()) loader_.join();
}

void Daemon::OnSignal(int number) {
  if (number == SIGHUP) {
    log_->Info("SIGHUP is ignored: there is nothing to load again");
    return;
  }
  events_.PostSignal();
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
    state_.Close("the server is shutting down");
    server_->Shutdown(absl::ZeroDuration());
    return ExitCodeOf(started.status().code());
  }
  const std::chrono::duration<double> took = steady_clock::now() - begin;
  log_->Info(absl::StrFormat("ready after %.1f s", took.count()));
  return Serve(*std::move(started), must_exit_now);
}

absl::Status Daemon::Listen() {
  GrpcServerOptions server;
  server.listen = options_.listen;
  server.reflection = options_.grpc_reflection || AllLoopback(options_.listen);
  server.stream_buffer_bytes = options_.stream_buffer_bytes;
  MOED_ASSIGN_OR_RETURN(server_, GrpcServer::Start(server, &state_, &validator_));
  for (size_t i = 0; i < options_.listen.size(); ++i) {
    const std::string& address = options_.listen[i];
    log_->Info(absl::StrCat("listening for gRPC on ", address.substr(0, address.rfind(':')), ":",
                            server_->ports()[i]));
  }
  return WritePortFile();
}

absl::Status Daemon::WritePortFile() const {
  if (options_.port_file.empty()) return absl::OkStatus();
  // Written whole under another name, so that a reader never sees half of it.
  const std::string partial = options_.port_file + ".partial";
  {
    std::ofstream file(partial);
    file << absl::StrJoin(server_->ports(), "\n") << "\n";
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
  ModelStartHooks hooks;
  hooks.on_progress = [&](const RankProgress& progress) {
    reporter.Report(progress);
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
  cancel_load_ = true;
  state_.Close("the server is shutting down");
  server_->Shutdown(absl::ZeroDuration());
  // Cancelled between tensors; one that takes too long is left behind.
  *must_exit_now = !events_.WaitForStart(steady_clock::now() + kCancelLoadTimeout);
  if (*must_exit_now) log_->Warning("loading does not stop; the process ends under it");
  return kExitOk;
}

int Daemon::Serve(Serving serving, bool* must_exit_now) {
  const std::shared_ptr<Engine> engine = serving.engine;
  state_.SetServing(std::move(serving));
  server_->SetServing(true);
  events_.WaitForSignalOrFault();
  server_->SetServing(false);
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

bool Daemon::Stop(const std::shared_ptr<Engine>& engine) {
  std::thread ending([this, engine] {
    engine->Shutdown(absl::UnavailableError("the server is shutting down"));
    server_->Shutdown(events_.signals() > 1 ? absl::ZeroDuration() : kFlushGrace);
    state_.Close("the server is shutting down");
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
  const auto deadline = steady_clock::now() +
                        std::chrono::milliseconds(
                            static_cast<int64_t>(std::ceil(options_.drain_timeout_seconds * 1000)));
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
