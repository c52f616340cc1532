#include "runtime/output/outbox.h"

#include <algorithm>
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

size_t LogprobBytes(const std::vector<TokenLogprob>& logprobs) {
  size_t bytes = 0;
  for (const TokenLogprob& logprob : logprobs) {
    bytes += sizeof(logprob) + logprob.top.size() * sizeof(logprob.top[0]);
  }
  return bytes;
}

// `from` follows `to` in the same continuation, so it has no prompt report.
void Join(GenerationDelta&& from, GenerationDelta* to) {
  to->text += from.text;
  MoveAppend(std::move(from.token_ids), &to->token_ids);
  MoveAppend(std::move(from.logprobs), &to->logprobs);
  MoveAppend(std::move(from.routed_experts), &to->routed_experts);
  if (from.finish) to->finish = std::move(from.finish);
}

}  // namespace

size_t DeltaBytes(const GenerationDelta& delta) {
  size_t bytes = delta.text.size() + delta.token_ids.size() * sizeof(delta.token_ids[0]) +
                 delta.routed_experts.size() * sizeof(delta.routed_experts[0]) +
                 LogprobBytes(delta.logprobs);
  if (delta.prompt) bytes += LogprobBytes(delta.prompt->logprobs);
  return bytes;
}

Outbox::Outbox(size_t max_bytes, std::function<void()> on_ready)
    : max_bytes_(max_bytes), on_ready_(std::move(on_ready)) {
  MOED_CHECK(max_bytes >= 1, "an outbox needs room");
}

bool Outbox::TakeWake() { return std::exchange(reader_waits_, false); }

bool Outbox::TakeFirst(int32_t choice) {
  const auto index = static_cast<size_t>(choice);
  if (index >= has_begun_.size()) has_begun_.resize(index + 1, false);
  const bool is_first = !has_begun_[index];
  has_begun_[index] = true;
  return is_first;
}

void Outbox::Add(GenerationDelta delta, size_t bytes, size_t counted_bytes) {
  pending_bytes_ += bytes;
  counted_bytes_ += counted_bytes;
  const auto last = std::find_if(
      waiting_.rbegin(), waiting_.rend(),
      [&delta](const Waiting& waiting) { return waiting.delta.choice == delta.choice; });
  if (last != waiting_.rend() && last->bytes + bytes <= kMaxJoinedBytes) {
    Join(std::move(delta), &last->delta);
    last->bytes += bytes;
    last->counted_bytes += counted_bytes;
    return;
  }
  waiting_.push_back({std::move(delta), bytes, counted_bytes});
}

void Outbox::Drop() {
  waiting_.clear();
  pending_bytes_ = 0;
  counted_bytes_ = 0;
}

bool Outbox::OnDelta(GenerationDelta delta) {
  bool must_wake = false;
  {
    MutexLock lock(mutex_);
    if (closed_) return false;
    const size_t bytes = DeltaBytes(delta);
    const bool is_first = TakeFirst(delta.choice);
    if (!is_first && !waiting_.empty() && counted_bytes_ + bytes > max_bytes_) {
      overflowed_ = true;
      closed_ = true;
      Drop();
      return false;
    }
    Add(std::move(delta), bytes, is_first ? 0 : bytes);
    must_wake = TakeWake();
  }
  if (must_wake && on_ready_) on_ready_();
  return true;
}

void Outbox::OnFinish(const GenerationFinish& finish) {
  bool must_wake = false;
  {
    MutexLock lock(mutex_);
    MOED_CHECK(!end_, "a request ends twice");
    end_ = finish;
    if (!finish.status.ok()) Drop();
    must_wake = TakeWake();
  }
  if (must_wake && on_ready_) on_ready_();
}

std::optional<OutboxMessage> Outbox::Pop() {
  MutexLock lock(mutex_);
  OutboxMessage message;
  if (!waiting_.empty()) {
    Waiting& oldest = waiting_.front();
    pending_bytes_ -= oldest.bytes;
    counted_bytes_ -= oldest.counted_bytes;
    message.delta = std::move(oldest.delta);
    waiting_.erase(waiting_.begin());
  }
  if (waiting_.empty() && end_ && !end_taken_) {
    message.end = end_;
    end_taken_ = true;
  }
  if (message.delta || message.end) return message;
  reader_waits_ = true;
  return std::nullopt;
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
