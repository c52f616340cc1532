// Server streams that answer at once and then every interval: one thread for all of them.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/core/mutex.h"
#include "runtime/schedule/request.h"

namespace moed {

// What a watcher is told. Thread-safe; must not block, nor keep a model or an engine alive.
struct PeriodicAnswer {
  std::chrono::milliseconds interval{1000};
  // An error ends the stream with it.
  std::function<absl::StatusOr<grpc::ByteBuffer>()> answer;
};

// Thread-safe. A client that reads slowly is told less often: while a message is on its way none is
// made. A stream ends with the client's cancel or deadline, an error of its answer, or Shutdown.
//
// Must outlive the server whose calls it serves; Shutdown comes before the server's.
class PeriodicStreams {
 public:
  static constexpr size_t kMaxStreams = 64;
  using Reactor = grpc::ServerWriteReactor<grpc::ByteBuffer>;
  // How the call ended, once.
  using OnEnd = std::function<void(const absl::Status&)>;

  PeriodicStreams();
  ~PeriodicStreams();  // no stream may be left

  // The reactor of a call. An error, RESOURCE_EXHAUSTED where kMaxStreams are open, and UNAVAILABLE
  // after Shutdown end it at once. Never null; owns itself.
  Reactor* Start(grpc::CallbackServerContext* context, absl::StatusOr<PeriodicAnswer> answer,
                 OnEnd on_end);

  // Ends every stream with `reason`, without waiting for those whose last message nobody reads: the
  // server cancels them.
  void Shutdown(const absl::Status& reason);

  size_t num_streams() const;

 private:
  class Stream;
  struct Entry {
    std::shared_ptr<Stream> stream;
    std::chrono::milliseconds interval;
    TimePoint due;
  };

  // Why there is no room for another stream.
  absl::Status Admit(const std::shared_ptr<Stream>& stream, std::chrono::milliseconds interval);
  void Remove(const Stream* stream);
  void RunTimer();

  mutable Mutex mutex_;
  CondVar changed_;
  std::vector<Entry> entries_ ABSL_GUARDED_BY(mutex_);
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);  // not OK: no more streams
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread timer_;  // last: it uses the rest
};

}  // namespace moed
