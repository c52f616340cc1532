#include "server/security/certificate_watcher.h"

#include <utility>

#include "kernels/core/check.h"

namespace moed {

CertificateWatcher::CertificateWatcher(std::shared_ptr<CertificateStore> store,
                                       std::chrono::milliseconds interval,
                                       CertificateWatcherHooks hooks)
    : store_(std::move(store)), interval_(interval), hooks_(std::move(hooks)) {
  MOED_CHECK(hooks_.on_changed && hooks_.on_failure, "somebody wants to know");
  thread_ = std::thread([this] { Run(); });
}

CertificateWatcher::~CertificateWatcher() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
  }
  stop_requested_.NotifyAll();
  thread_.join();
}

void CertificateWatcher::Check() {
  MutexLock lock(check_mutex_);
  const absl::StatusOr<bool> changed = store_->Reload();
  if (!changed.ok()) {
    const std::string problem = changed.status().ToString();
    hooks_.on_failure(changed.status(), problem == last_problem_);
    last_problem_ = problem;
    return;
  }
  last_problem_.clear();
  if (*changed) hooks_.on_changed();
}

void CertificateWatcher::Run() {
  while (true) {
    {
      MutexLock lock(mutex_);
      const auto deadline = std::chrono::steady_clock::now() + interval_;
      while (!stop_ && stop_requested_.WaitUntil(mutex_, deadline)) {
      }
      if (stop_) return;
    }
    Check();
  }
}

}  // namespace moed
