#include "tests/cuda_host/host_streams.h"

#include <utility>

#include "tests/cuda_host/host_memory.h"

namespace moed::cuda_host {

HostStreams::HostStreams() : null_stream_(std::make_shared<Stream>()) {}

void* HostStreams::CreateStream() {
  const MutexLock lock(mutex_);
  void* handle = reinterpret_cast<void*>(next_handle_ += 16);
  streams_.emplace(handle, std::make_shared<Stream>());
  return handle;
}

void HostStreams::DestroyStream(void* handle) {
  Synchronize(handle);
  const MutexLock lock(mutex_);
  if (streams_.erase(handle) == 0) Misuse("a stream is destroyed that is not there");
}

void* HostStreams::CreateEvent(bool timed) {
  const MutexLock lock(mutex_);
  void* handle = reinterpret_cast<void*>(next_handle_ += 16);
  auto event = std::make_shared<Event>();
  event->timed = timed;
  events_.emplace(handle, std::move(event));
  return handle;
}

void HostStreams::DestroyEvent(void* handle) {
  const MutexLock lock(mutex_);
  if (events_.erase(handle) == 0) Misuse("an event is destroyed that is not there");
}

std::shared_ptr<HostStreams::Stream> HostStreams::FindStream(void* handle) {
  if (handle == nullptr) return null_stream_;
  const auto found = streams_.find(handle);
  if (found == streams_.end()) Misuse("a stream is used that is not there, or no longer");
  return found->second;
}

std::shared_ptr<HostStreams::Event> HostStreams::FindEvent(void* handle) {
  const auto found = events_.find(handle);
  if (found == events_.end()) Misuse("an event is used that is not there, or no longer");
  return found->second;
}

void HostStreams::Push(Stream& stream, std::function<void()> work) {
  stream.operations.push_back({std::move(work)});
  ++stream.num_enqueued;
}

void HostStreams::Enqueue(void* stream, std::function<void()> work) {
  const MutexLock lock(mutex_);
  Push(*FindStream(stream), std::move(work));
}

void HostStreams::Record(void* event, void* stream) {
  const MutexLock lock(mutex_);
  const std::shared_ptr<Event> recorded = FindEvent(event);
  recorded->stream = FindStream(stream);
  Push(*recorded->stream, [this, recorded] {
    const MutexLock stamp(mutex_);
    recorded->time = Clock::now();
  });
  recorded->position = recorded->stream->num_enqueued;
}

void HostStreams::Wait(void* stream, void* event) {
  const MutexLock lock(mutex_);
  const std::shared_ptr<Event> awaited = FindEvent(event);
  const std::shared_ptr<Stream> waiting = FindStream(stream);
  if (awaited->stream == nullptr || awaited->stream == waiting) return;
  // The event may be recorded anew before this runs; what counts is where it is now.
  Push(*waiting, [this, source = awaited->stream, position = awaited->position] {
    RunUntil(*source, position);
  });
}

void HostStreams::RunUntil(Stream& stream, int64_t num_run) {
  mutex_.Lock();
  while (stream.num_run < num_run) {
    if (stream.busy) {
      ran_.Wait(mutex_);
      continue;
    }
    stream.busy = true;
    {
      const Operation operation = std::move(stream.operations.front());
      stream.operations.pop_front();
      mutex_.Unlock();
      operation.work();
    }
    mutex_.Lock();
    stream.busy = false;
    ++stream.num_run;
    ran_.NotifyAll();
  }
  mutex_.Unlock();
}

void HostStreams::Synchronize(void* stream) {
  mutex_.Lock();
  const std::shared_ptr<Stream> found = FindStream(stream);
  const int64_t end = found->num_enqueued;
  mutex_.Unlock();
  RunUntil(*found, end);
}

void HostStreams::SynchronizeEvent(void* event) {
  mutex_.Lock();
  const std::shared_ptr<Event> found = FindEvent(event);
  const std::shared_ptr<Stream> stream = found->stream;
  const int64_t position = found->position;
  mutex_.Unlock();
  if (stream != nullptr) RunUntil(*stream, position);
}

bool HostStreams::Query(void* event) {
  mutex_.Lock();
  const std::shared_ptr<Event> found = FindEvent(event);
  const std::shared_ptr<Stream> stream = found->stream;
  const bool reached = stream == nullptr || stream->num_run >= found->position;
  const int64_t next = reached ? 0 : stream->num_run + 1;
  mutex_.Unlock();
  if (!reached) RunUntil(*stream, next);
  return reached;
}

double HostStreams::ElapsedSeconds(void* start, void* stop) {
  const MutexLock lock(mutex_);
  const std::shared_ptr<Event> events[] = {FindEvent(start), FindEvent(stop)};
  for (const auto& event : events) {
    if (!event->timed || event->stream == nullptr || event->stream->num_run < event->position) {
      return -1;
    }
  }
  return std::chrono::duration<double>(events[1]->time - events[0]->time).count();
}

int64_t HostStreams::num_streams() const {
  const MutexLock lock(mutex_);
  return static_cast<int64_t>(streams_.size());
}

int64_t HostStreams::num_events() const {
  const MutexLock lock(mutex_);
  return static_cast<int64_t>(events_.size());
}

int64_t HostStreams::num_pending() const {
  const MutexLock lock(mutex_);
  int64_t pending = static_cast<int64_t>(null_stream_->operations.size());
  for (const auto& [handle, stream] : streams_) {
    pending += static_cast<int64_t>(stream->operations.size());
  }
  return pending;
}

}  // namespace moed::cuda_host
