#include "runtime/output/writer_threads.h"

#include <algorithm>
#include <utility>

#include "kernels/core/check.h"

namespace moed {
namespace {

// That a thread takes at a time: another one may be idle soon.
constexpr size_t kMaxTaken = 32;

}  // namespace

WriterThreads::WriterThreads(int num_threads) : num_threads_(static_cast<size_t>(num_threads)) {
  MOED_CHECK(num_threads >= 1, "writing needs a thread");
  for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this] { Run(); });
}

WriterThreads::~WriterThreads() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    posted_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

void WriterThreads::Post(std::function<void()> write) {
  MutexLock lock(mutex_);
  MOED_CHECK(!stopping_, "a write is posted after the threads were stopped");
  queue_.push_back(std::move(write));
  if (num_idle_ > 0) posted_.NotifyOne();
}

void WriterThreads::Take(std::vector<std::function<void()>>* taken) {
  MutexLock lock(mutex_);
  ++num_idle_;
  while (queue_.empty() && !stopping_) posted_.Wait(mutex_);
  --num_idle_;
  const size_t share = (queue_.size() + num_threads_ - 1) / num_threads_;
  for (size_t i = 0; i < std::min(share, kMaxTaken); ++i) {
    taken->push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
}

void WriterThreads::Run() {
  std::vector<std::function<void()>> taken;
  while (true) {
    taken.clear();
    Take(&taken);
    if (taken.empty()) return;
    for (const std::function<void()>& write : taken) write();
  }
}

}  // namespace moed
