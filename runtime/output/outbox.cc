#include "runtime/output/outbox.h"

#include <iterator>
#include <utility>

#include "kernels/core/check.h"

namespace moed {
namespace {

template <typename T>
void MoveAppend(std::vector<T>&& from, std::vector<T>* to) {
  if (to->empty()) {
    *to = std::move(from);
  } else {
    to->insert(to->end(), std::make_move_iterator(from.begin()),
               std::make_move_iterator(from.end()));
  }
}

}  // namespace

size_t DeltaBytes(const GenerationDelta& delta) {
  size_t bytes = delta.text.size() + delta.token_ids.size() * sizeof(delta.token_ids[0]);
  for (const TokenLogprob& logprob : delta.logprobs) {
    bytes += sizeof(logprob) + logprob.top.size() * sizeof(logprob.top[0]);
  }
  return bytes;
}

Outbox::Outbox(size_t max_bytes, std::function<void()> on_ready)
    : max_bytes_(max_bytes), on_ready_(std::move(on_ready)) {
  MOED_CHECK(max_bytes >= 1, "an outbox needs room");
}

bool Outbox::TakeWake() { return std::exchange(reader_waits_, false); }

void Outbox::Drop() {
  pending_ = GenerationDelta();
  pending_bytes_ = 0;
  has_delta_ = false;
}

bool Outbox::OnDelta(GenerationDelta delta) {
  bool must_wake = false;
  {
    MutexLock lock(mutex_);
    if (closed_) return false;
    const size_t bytes = DeltaBytes(delta);
    if (has_delta_ && pending_bytes_ + bytes > max_bytes_) {
      overflowed_ = true;
      closed_ = true;
      Drop();
      return false;
    }
    if (pending_.text.empty()) {
      pending_.text = std::move(delta.text);
    } else {
      pending_.text += delta.text;
    }
    MoveAppend(std::move(delta.token_ids), &pending_.token_ids);
    MoveAppend(std::move(delta.logprobs), &pending_.logprobs);
    pending_bytes_ += bytes;
    has_delta_ = true;
    must_wake = TakeWake();
  }
  if (must_wake && on_ready_) on_ready_();
  return true;
}

void Outbox::OnFinish(const GenerationFinish& finish) {
  bool must_wake = false;
  {
    MutexLock lock(mutex_);
    MOED_CHECK(!finish_, "a request ends twice");
    finish_ = finish;
    must_wake = TakeWake();
  }
  if (must_wake && on_ready_) on_ready_();
}

std::optional<OutboxMessage> Outbox::Pop() {
  MutexLock lock(mutex_);
  if (!has_delta_ && (!finish_ || finish_taken_)) {
    reader_waits_ = true;
    return std::nullopt;
  }
  OutboxMessage message{std::move(pending_), finish_};
  finish_taken_ = finish_.has_value();
  Drop();
  return message;
}

void Outbox::Close() {
  MutexLock lock(mutex_);
  closed_ = true;
  Drop();
}

bool Outbox::overflowed() const {
  MutexLock lock(mutex_);
  return overflowed_;
}

size_t Outbox::pending_bytes() const {
  MutexLock lock(mutex_);
  return pending_bytes_;
}

}  // namespace moed
