// The life of the process: listen, load, serve, drain.
#pragma once

#include <atomic>
#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "server/admission/request_validator.h"
#include "server/app/daemon_events.h"
#include "server/app/daemon_options.h"
#include "server/app/logging.h"
#include "server/app/signal_watcher.h"
#include "server/rpc/grpc_server.h"
#include "server/state/serving_state.h"

namespace moed {

class Daemon {
 public:
  // Before any thread of the process: see SignalWatcher.
  Daemon(const DaemonOptions& options, Log* log);
  ~Daemon();

  // Serves until a signal or a failure; the exit code. Where a thread had to be left behind
  // (`*must_exit_now`) the process must end without destroying this object.
  int Run(bool* must_exit_now);

 private:
  absl::Status Listen();
  absl::Status WritePortFile() const;
  void Load();
  // The loading has been interrupted by a signal.
  int EndWhileLoading(bool* must_exit_now);
  int Serve(Serving serving, bool* must_exit_now);
  void Drain(Engine* engine);
  // Ends engine and server on a thread of its own. False: a step or a rank that hangs keeps it.
  bool Stop(const std::shared_ptr<Engine>& engine);
  void OnSignal(int number);

  const DaemonOptions options_;
  Log* const log_;
  DaemonEvents events_;
  SignalWatcher signals_;
  ServingState state_;
  RequestValidator validator_;
  std::unique_ptr<GrpcServer> server_;
  std::atomic<bool> cancel_load_{false};
  std::thread loader_;
};

}  // namespace moed
