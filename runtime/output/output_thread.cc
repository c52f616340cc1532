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

void OutputThread::PostTokens(std::vector<SequenceToken> tokens) {
  if (tokens.empty()) return;
  MutexLock lock(mutex_);
  while (num_queued_steps_ >= kMaxQueuedSteps) processed_.Wait(mutex_);
  ++num_queued_steps_;
  Post(std::move(tokens));
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
    if (auto* open = std::get_if<OutputOpen>(&event)) {
      processor_.Open(std::move(*open));
    } else if (const Tokens* tokens = std::get_if<Tokens>(&event)) {
      for (const SequenceToken& token : *tokens) processor_.Token(token);
    } else if (const Ends* ends = std::get_if<Ends>(&event)) {
      for (const SequenceEnd& end : *ends) processor_.End(end);
    }
    MutexLock lock(mutex_);
    if (std::holds_alternative<Tokens>(event)) --num_queued_steps_;
    ++num_processed_;
    processed_.NotifyAll();
  }
}

}  // namespace moed
