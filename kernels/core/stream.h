// The order of work on a device.
#pragma once

namespace moed {

// Backend and communicator calls are enqueued on a stream and run in its order; host code waits
// only in Backend::Synchronize and where a call's comment says so. On the CPU a call has run when
// it returns. Created by a Backend, used by one thread at a time.
class Stream {
 public:
  Stream() = default;
  virtual ~Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
};

}  // namespace moed
