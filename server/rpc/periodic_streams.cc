#include "server/rpc/periodic_streams.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/wire.h"

namespace moed {

// One call. gRPC lets go of it in OnDone; the timer may hold it a little longer.
//
// Finish must come once, and no write after it. Whoever sets `writing_` owns the call until the
// write is done: an end that comes meanwhile is left to it.
class PeriodicStreams::Stream : public Reactor {
 public:
  Stream(PeriodicStreams* streams, grpc::CallbackServerContext* context, PeriodicAnswer answer,
         OnEnd on_end)
      : streams_(streams),
        context_(context),
        answer_(std::move(answer)),
        on_end_(std::move(on_end)) {}

  // Before the call is known to anybody else.
  void Hold(std::shared_ptr<Stream> self) { self_ = std::move(self); }

  // Makes and sends a message, unless one is on its way or the stream has ended.
  void Tick() {
    {
      MutexLock lock(mutex_);
      if (writing_ || end_.has_value()) return;
      writing_ = true;
    }
    absl::StatusOr<grpc::ByteBuffer> message = answer_.answer();
    if (message.ok()) {
      message_ = *std::move(message);
      StartWrite(&message_);
    } else {
      EndWrite(message.status());
    }
  }

  // Ends the call unless something else has.
  void End(const absl::Status& status) {
    {
      MutexLock lock(mutex_);
      if (end_.has_value()) return;
      end_ = status;
      if (writing_) return;
    }
    Finish(EndCall(context_, status));
  }

  void OnWriteDone(bool ok) override {
    EndWrite(ok ? absl::OkStatus() : absl::CancelledError("the client has gone"));
  }
  void OnCancel() override { End(absl::CancelledError("the client has gone")); }
  void OnDone() override {
    absl::Status end;
    {
      MutexLock lock(mutex_);
      end = end_.value_or(absl::CancelledError("the client has gone"));
    }
    on_end_(end);
    streams_->Remove(this);
    const std::shared_ptr<Stream> self = std::move(self_);  // the last one, perhaps
  }

 private:
  // After a write or what came instead of one; `status` not OK ends the call.
  void EndWrite(const absl::Status& status) {
    absl::Status end;
    {
      MutexLock lock(mutex_);
      writing_ = false;
      if (!end_.has_value() && !status.ok()) end_ = status;
      if (!end_.has_value()) return;
      end = *end_;
    }
    Finish(EndCall(context_, end));
  }

  PeriodicStreams* const streams_;
  grpc::CallbackServerContext* const context_;
  const PeriodicAnswer answer_;
  const OnEnd on_end_;
  std::shared_ptr<Stream> self_;
  grpc::ByteBuffer message_;  // of the write
  Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
};

PeriodicStreams::PeriodicStreams() : timer_([this] { RunTimer(); }) {}

PeriodicStreams::~PeriodicStreams() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.NotifyAll();
  timer_.join();
}

PeriodicStreams::Reactor* PeriodicStreams::Start(grpc::CallbackServerContext* context,
                                                 absl::StatusOr<PeriodicAnswer> answer,
                                                 OnEnd on_end) {
  absl::Status status = answer.status();
  const std::chrono::milliseconds interval =
      status.ok() ? answer->interval : PeriodicAnswer().interval;
  auto stream = std::make_shared<Stream>(
      this, context, status.ok() ? *std::move(answer) : PeriodicAnswer(), std::move(on_end));
  stream->Hold(stream);
  if (status.ok()) status = Admit(stream, interval);
  // From here on the timer and Shutdown may know the call; what they start waits until this
  // returns.
  if (status.ok()) {
    stream->Tick();
  } else {
    stream->End(status);
  }
  return stream.get();
}

absl::Status PeriodicStreams::Admit(const std::shared_ptr<Stream>& stream,
                                    std::chrono::milliseconds interval) {
  MutexLock lock(mutex_);
  if (!closed_.ok()) return closed_;
  if (entries_.size() >= kMaxStreams) {
    return absl::ResourceExhaustedError(
        absl::StrCat("there are ", kMaxStreams, " watchers already; no more are allowed"));
  }
  entries_.push_back({stream, interval, std::chrono::steady_clock::now() + interval});
  changed_.NotifyAll();
  return absl::OkStatus();
}

void PeriodicStreams::Remove(const Stream* stream) {
  MutexLock lock(mutex_);
  entries_.erase(
      std::remove_if(entries_.begin(), entries_.end(),
                     [stream](const Entry& entry) { return entry.stream.get() == stream; }),
      entries_.end());
}

void PeriodicStreams::Shutdown(const absl::Status& reason) {
  std::vector<std::shared_ptr<Stream>> open;
  {
    MutexLock lock(mutex_);
    if (closed_.ok()) closed_ = reason;
    for (const Entry& entry : entries_) open.push_back(entry.stream);
  }
  for (const std::shared_ptr<Stream>& stream : open) stream->End(reason);
}

size_t PeriodicStreams::num_streams() const {
  MutexLock lock(mutex_);
  return entries_.size();
}

void PeriodicStreams::RunTimer() {
  std::vector<std::shared_ptr<Stream>> due;
  while (true) {
    {
      MutexLock lock(mutex_);
      while (!stopping_ && entries_.empty()) changed_.Wait(mutex_);
      if (stopping_) return;
      TimePoint now = std::chrono::steady_clock::now();
      TimePoint next = TimePoint::max();
      for (Entry& entry : entries_) {
        if (entry.due <= now) {
          due.push_back(entry.stream);
          entry.due += entry.interval;
          if (entry.due <= now) entry.due = now + entry.interval;  // late: it does not catch up
        }
        next = std::min(next, entry.due);
      }
      if (due.empty()) changed_.WaitUntil(mutex_, next);
    }
    for (const std::shared_ptr<Stream>& stream : due) stream->Tick();
    due.clear();
  }
}

}  // namespace moed
