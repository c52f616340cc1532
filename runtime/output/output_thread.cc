#include "runtime/output/output_thread.h"

#include <utility>

#include "kernels/core/check.h"

namespace moed {

OutputThread::OutputThread(OutputProcessor::ClosingCallback on_closing)
    : processor_(std::move(on_closing)), thread_([this] { Run(); }) {}

OutputThread::~OutputThread() { Stop(); }

void OutputThread::Post(Event event) {
  MOED_CHECK(!stopping_, "output is posted after the thread was stopped");
  queue_.push_back(std::move(event));
  ++num_posted_;
  posted_.NotifyOne();
}

void OutputThread::PostOpen(OutputOpen open) {
  MutexLock lock(mutex_);
  Post(std::move(open));
}

void OutputThread::PostStep(StepOutput step) {
  if (step.reports.empty() && step.tokens.empty()) return;
  MutexLock lock(mutex_);
  while (num_queued_steps_ >= kMaxQueuedSteps) processed_.Wait(mutex_);
  ++num_queued_steps_;
  Post(std::move(step));
}

void OutputThread::PostTimeouts(std::vector<SequenceTimeout> timeouts) {
  if (timeouts.empty()) return;
  MutexLock lock(mutex_);
  Post(std::move(timeouts));
}

void OutputThread::PostEnds(std::vector<SequenceEnd> ends) {
  if (ends.empty()) return;
  MutexLock lock(mutex_);
  Post(std::move(ends));
}

void OutputThread::Flush() {
  MutexLock lock(mutex_);
  const uint64_t target = num_posted_;
  while (num_processed_ < target) processed_.Wait(mutex_);
}

void OutputThread::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    posted_.NotifyOne();
  }
  if (thread_.joinable()) thread_.join();
}

void OutputThread::Run() {
  while (true) {
    Event event;
    {
      MutexLock lock(mutex_);
      while (queue_.empty() && !stopping_) posted_.Wait(mutex_);
      if (queue_.empty()) return;
      event = std::move(queue_.front());
      queue_.pop_front();
    }
    const bool is_step = std::holds_alternative<StepOutput>(event);
    std::visit([this](auto&& value) { Process(std::forward<decltype(value)>(value)); },
               std::move(event));
    MutexLock lock(mutex_);
    if (is_step) --num_queued_steps_;
    ++num_processed_;
    processed_.NotifyAll();
  }
}

void OutputThread::Process(OutputOpen&& open) { processor_.Open(std::move(open)); }

void OutputThread::Process(StepOutput&& step) {
  for (SequenceReport& report : step.reports) processor_.Report(std::move(report));
  for (const SequenceToken& token : step.tokens) processor_.Token(token);
}

void OutputThread::Process(const Timeouts& timeouts) {
  for (const SequenceTimeout& timeout : timeouts) processor_.Timeout(timeout);
}

void OutputThread::Process(const Ends& ends) {
  for (const SequenceEnd& end : ends) processor_.End(end);
}

}  // namespace moed
