// How many generations of one client may be served at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/core/mutex.h"

namespace moed {

// Thread-safe. A client is Caller::client: the name of its key, or its address without keys.
class ClientLimiter {
 public:
  // 0: no limit.
  explicit ClientLimiter(int32_t max_per_client) : max_per_client_(max_per_client) {}

  // A place that is given back on destruction; the limiter must outlive it. Movable.
  class Place {
   public:
    Place() = default;
    Place(Place&& other) noexcept;
    Place& operator=(Place&& other) noexcept;
    ~Place();

   private:
    friend class ClientLimiter;
    Place(ClientLimiter* limiter, std::string client);
    void Release();

    ClientLimiter* limiter_ = nullptr;
    std::string client_;
  };

  // RESOURCE_EXHAUSTED (CLIENT_LIMIT, with the limit and when to come back) where the client has
  // as many as it may.
  absl::StatusOr<Place> Enter(absl::string_view client);

  // Clients that hold a place.
  size_t num_clients() const;

 private:
  const int32_t max_per_client_;
  mutable Mutex mutex_;
  absl::flat_hash_map<std::string, int32_t> places_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moed
