#include "server/http/connection_room.h"

#include <utility>

namespace moed {

std::shared_ptr<EndableConnection> ConnectionRoom::TakeOldestIfFull() {
  if (closed_ || num_connections_ < max_connections_) return nullptr;
  for (std::weak_ptr<EndableConnection>& connection : idle_) {
    if (std::shared_ptr<EndableConnection> oldest = connection.lock(); oldest != nullptr) {
      connection.reset();
      return oldest;
    }
  }
  return nullptr;
}

bool ConnectionRoom::HasPlace(std::function<void()> when_free) {
  MutexLock lock(mutex_);
  if (closed_) return false;
  if (num_connections_ < max_connections_) return true;
  waiting_.push_back(std::move(when_free));
  return false;
}

void ConnectionRoom::Enter() {
  std::shared_ptr<EndableConnection> oldest;
  {
    MutexLock lock(mutex_);
    ++num_connections_;
    oldest = TakeOldestIfFull();
  }
  if (oldest != nullptr) oldest->End();
}

void ConnectionRoom::Leave() {
  std::vector<std::function<void()>> waiting;
  {
    MutexLock lock(mutex_);
    --num_connections_;
    waiting.swap(waiting_);
  }
  for (const std::function<void()>& when_free : waiting) when_free();
}

ConnectionRoom::IdlePlace ConnectionRoom::BeginIdle(std::weak_ptr<EndableConnection> connection) {
  std::shared_ptr<EndableConnection> oldest;
  IdlePlace place;
  {
    MutexLock lock(mutex_);
    place = idle_.insert(idle_.end(), std::move(connection));
    oldest = TakeOldestIfFull();
  }
  if (oldest != nullptr) oldest->End();
  return place;
}

void ConnectionRoom::EndIdle(IdlePlace place) {
  MutexLock lock(mutex_);
  idle_.erase(place);
}

void ConnectionRoom::Close() {
  MutexLock lock(mutex_);
  closed_ = true;
  waiting_.clear();
}

}  // namespace moed
