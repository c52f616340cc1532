// The life of the process: listen, load, serve, drain.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "kernels/core/mutex.h"
#include "server/app/daemon_events.h"
#include "server/app/daemon_options.h"
#include "server/app/front_ends.h"
#include "server/app/heap_trimmer.h"
#include "server/app/logging.h"
#include "server/app/service_manager.h"
#include "server/app/signal_watcher.h"
#include "server/state/admin_control.h"
#include "server/state/lifecycle.h"
#include "server/state/serving_state.h"

namespace moed {

class Daemon final : public AdminControl {
 public:
  // Before any thread of the process: see SignalWatcher. `read_again` reads the settings again, for
  // SIGHUP; called on the watcher's thread.
  Daemon(const DaemonOptions& options, Log* log, std::function<ParsedCommandLine()> read_again);
  ~Daemon() override;

  // Serves until a signal or a failure; the exit code. Where a thread had to be left behind
  // (`*must_exit_now`) the process must end without destroying this object.
  int Run(bool* must_exit_now);

  void BeginDrain(std::optional<std::chrono::milliseconds> timeout) override;
  absl::Status SetLogLevel(absl::string_view level) override;

 private:
  absl::Status Listen();
  void LogAddresses(absl::string_view what, const std::vector<std::string>& listen,
                    const std::vector<int>& ports) const;
  absl::Status WritePortFile() const;
  void Load();
  // The loading has been interrupted by a signal.
  int EndWhileLoading(bool* must_exit_now);
  int Serve(Serving serving, bool* must_exit_now);
  void Drain(Engine* engine);
  // SIGHUP: keys, certificates and the log level.
  void Reload();
  void ReloadLogLevel();
  // What came of telling the service manager.
  void Told(const absl::Status& status);
  // Nothing is served from now on.
  void Close();
  // Ends engine and server on a thread of its own. False: a step or a rank that hangs keeps it.
  bool Stop(const std::shared_ptr<Engine>& engine);
  void OnSignal(int number);

  const DaemonOptions options_;
  Log* const log_;
  const std::function<ParsedCommandLine()> read_again_;
  DaemonEvents events_;
  Lifecycle lifecycle_;
  ServingState state_;
  std::unique_ptr<FrontEnds> front_ends_;
  ServiceManager service_manager_;  // after what its watchdog looks at
  Mutex reload_mutex_;
  FrontEnds* reloadable_ ABSL_GUARDED_BY(reload_mutex_) = nullptr;  // while it can be asked to
  std::atomic<bool> cancel_load_{false};
  std::thread loader_;
  SignalWatcher signals_;           // after what OnSignal needs: it calls as soon as it is there
  const HeapTrimmer heap_trimmer_;  // has a thread, which inherits that signals are blocked
};

}  // namespace moed
