#include "server/admission/client_limiter.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/errors/error_details.h"

namespace moed {
namespace {

// Nobody knows when one of the client's generations ends; to come back every second costs nothing.
constexpr std::chrono::milliseconds kComeBackAfter{1000};

}  // namespace

absl::StatusOr<ClientLimiter::Place> ClientLimiter::Enter(absl::string_view client) {
  if (max_per_client_ <= 0) return Place();
  MutexLock lock(mutex_);
  // Never left at 0: a client that is new is below any limit.
  int32_t& places = places_[std::string(client)];
  if (places >= max_per_client_) {
    const std::string limit = absl::StrCat(max_per_client_);
    return WithRetryAfter(
        WithReason(absl::ResourceExhaustedError(absl::StrCat(
                       "this client has as many generations as it may at a time (", limit, ")")),
                   kReasonClientLimit, {{"limit", limit}}),
        kComeBackAfter);
  }
  ++places;
  return Place(this, std::string(client));
}

size_t ClientLimiter::num_clients() const {
  MutexLock lock(mutex_);
  return places_.size();
}

ClientLimiter::Place::Place(ClientLimiter* limiter, std::string client)
    : limiter_(limiter), client_(std::move(client)) {}

ClientLimiter::Place::Place(Place&& other) noexcept
    : limiter_(std::exchange(other.limiter_, nullptr)), client_(std::move(other.client_)) {}

ClientLimiter::Place& ClientLimiter::Place::operator=(Place&& other) noexcept {
  if (this == &other) return *this;
  Release();
  limiter_ = std::exchange(other.limiter_, nullptr);
  client_ = std::move(other.client_);
  return *this;
}

ClientLimiter::Place::~Place() { Release(); }

void ClientLimiter::Place::Release() {
  ClientLimiter* const limiter = std::exchange(limiter_, nullptr);
  if (limiter == nullptr) return;
  MutexLock lock(limiter->mutex_);
  const auto found = limiter->places_.find(client_);
  if (--found->second == 0) limiter->places_.erase(found);
}

}  // namespace moed
