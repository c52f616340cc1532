// The thread on which tokens become text and sinks are called.
#pragma once

#include <deque>
#include <thread>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "kernels/core/mutex.h"
#include "runtime/output/output_processor.h"

namespace moed {

// Runs an OutputProcessor over a queue. Events are processed in the order they were posted, which
// must be that of the scheduler's calls they come from.
class OutputThread {
 public:
  // `on_closing` is called on the output thread.
  explicit OutputThread(OutputProcessor::ClosingCallback on_closing);
  // Stops, if Stop has not been called.
  ~OutputThread();

  // Never blocks: the scheduler's queue bounds how many streams are open.
  void PostOpen(OutputOpen open) ABSL_LOCKS_EXCLUDED(mutex_);
  // What one step gave; its reports go first. Blocks while kMaxQueuedSteps of them wait: the engine
  // does not run ahead of its output without bound.
  void PostStep(StepOutput step) ABSL_LOCKS_EXCLUDED(mutex_);
  void PostTimeouts(std::vector<SequenceTimeout> timeouts) ABSL_LOCKS_EXCLUDED(mutex_);
  void PostEnds(std::vector<SequenceEnd> ends) ABSL_LOCKS_EXCLUDED(mutex_);

  // Blocks until all that was posted before has been processed.
  void Flush() ABSL_LOCKS_EXCLUDED(mutex_);
  // Processes what was posted and joins the thread; nothing may be posted any more.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

  static constexpr int kMaxQueuedSteps = 64;

 private:
  using Timeouts = std::vector<SequenceTimeout>;
  using Ends = std::vector<SequenceEnd>;
  using Event = std::variant<OutputOpen, StepOutput, Timeouts, Ends>;

  void Post(Event event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Run();
  void Process(OutputOpen&& open);
  void Process(StepOutput&& step);
  void Process(const Timeouts& timeouts);
  void Process(const Ends& ends);

  OutputProcessor processor_;  // the output thread's
  Mutex mutex_;
  CondVar posted_;     // signalled when an event arrives or the thread is to stop
  CondVar processed_;  // signalled when an event has been processed
  std::deque<Event> queue_ ABSL_GUARDED_BY(mutex_);
  int num_queued_steps_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t num_posted_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t num_processed_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace moed
