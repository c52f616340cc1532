// Looks every few seconds whether the certificates have changed.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "kernels/core/mutex.h"
#include "server/security/certificate_store.h"

namespace moed {

struct CertificateWatcherHooks {
  std::function<void()> on_changed;  // the store holds new certificates
  // What is there was kept. `repeated`: the same was wrong the last time, which was said then.
  std::function<void(const absl::Status& problem, bool repeated)> on_failure;
};

// A thread that reloads the store, from construction to destruction.
class CertificateWatcher {
 public:
  // Both hooks must be set. They are called on the watcher's thread or Check's, one at a time.
  CertificateWatcher(std::shared_ptr<CertificateStore> store, std::chrono::milliseconds interval,
                     CertificateWatcherHooks hooks);
  ~CertificateWatcher();
  CertificateWatcher(const CertificateWatcher&) = delete;
  CertificateWatcher& operator=(const CertificateWatcher&) = delete;

  // Looks now, on the caller's thread; returns when the hooks have.
  void Check();

 private:
  void Run();

  const std::shared_ptr<CertificateStore> store_;
  const std::chrono::milliseconds interval_;
  const CertificateWatcherHooks hooks_;
  Mutex check_mutex_;
  std::string last_problem_ ABSL_GUARDED_BY(check_mutex_);
  Mutex mutex_;
  CondVar stop_requested_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace moed
