// An engine whose output the test writes.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "kernels/core/mutex.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/routing_ledger.h"
#include "tests/server/support/outputs.h"

namespace moed {

// Keeps every request until the test or a cancel ends it. Thread-safe; sinks are called on the
// thread that calls Emit, Finish or Cancel, one at a time.
class FakeEngine : public Engine {
 public:
  absl::Status Submit(GenerationRequest request, std::shared_ptr<GenerationSink> sink) override {
    MutexLock lock(mutex_);
    if (!refusal_.ok()) return refusal_;
    if (live_.contains(request.request_id)) return absl::AlreadyExistsError("live");
    const std::string id = request.request_id;
    live_[id] = {std::move(request), std::move(sink)};
    ++num_submitted_;
    changed_.NotifyAll();
    return absl::OkStatus();
  }

  bool Cancel(absl::string_view request_id, absl::Status reason) override {
    bool is_live = false;
    {
      MutexLock lock(mutex_);
      is_live = live_.contains(std::string(request_id));
      cancelled_.try_emplace(std::string(request_id), reason);  // the first one stands
      changed_.NotifyAll();
    }
    Finish(std::string(request_id), EndedWith(std::move(reason)));
    return is_live;
  }

  void BeginDrain() override { Refuse(absl::UnavailableError("the server is shutting down")); }
  void Shutdown(const absl::Status& reason) override {
    Refuse(reason);
    while (true) {
      std::string id;
      {
        MutexLock lock(mutex_);
        if (live_.empty()) return;
        id = live_.begin()->first;
      }
      Finish(id, EndedWith(reason));
    }
  }

  EngineStats Stats() const override {
    MutexLock lock(mutex_);
    return stats_;
  }

  // Two layers of four experts, with two of them for each token, until SetRouting.
  const RoutingLedger& routing() const override { return *routing_; }

  // What the test does.
  void SetRouting(std::unique_ptr<RoutingLedger> routing) { routing_ = std::move(routing); }
  void Refuse(const absl::Status& status) {
    MutexLock lock(mutex_);
    refusal_ = status;
  }
  void SetStats(EngineStats stats) {
    MutexLock lock(mutex_);
    stats_ = std::move(stats);
  }
  // Blocks until a request with this id is live.
  GenerationRequest WaitForRequest(const std::string& id) {
    MutexLock lock(mutex_);
    while (!live_.contains(id)) changed_.Wait(mutex_);
    return live_[id].request;
  }
  absl::Status WaitForCancel(const std::string& id) {
    MutexLock lock(mutex_);
    while (!cancelled_.contains(id)) changed_.Wait(mutex_);
    return cancelled_[id];
  }
  // False as the sink says, or where the request has ended.
  bool Emit(const std::string& id, GenerationDelta delta) {
    const std::shared_ptr<GenerationSink> sink = Sink(id, /*remove=*/false);
    return sink != nullptr && sink->OnDelta(std::move(delta));
  }
  void Finish(const std::string& id, const GenerationFinish& finish) {
    const std::shared_ptr<GenerationSink> sink = Sink(id, /*remove=*/true);
    if (sink != nullptr) sink->OnFinish(finish);
  }
  int num_submitted() const {
    MutexLock lock(mutex_);
    return num_submitted_;
  }

 private:
  struct Live {
    GenerationRequest request;
    std::shared_ptr<GenerationSink> sink;
  };

  std::shared_ptr<GenerationSink> Sink(const std::string& id, bool remove) {
    MutexLock lock(mutex_);
    const auto found = live_.find(id);
    if (found == live_.end()) return nullptr;
    std::shared_ptr<GenerationSink> sink = found->second.sink;
    if (remove) live_.erase(found);
    return sink;
  }

  std::unique_ptr<RoutingLedger> routing_ =
      RoutingLedger::Create(
          {.num_ranks = 1, .num_layers = 2, .num_experts = 4, .experts_per_token = 2}, TimePoint())
          .value();
  mutable Mutex mutex_;
  CondVar changed_;
  absl::Status refusal_ ABSL_GUARDED_BY(mutex_);
  EngineStats stats_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Live> live_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Status> cancelled_ ABSL_GUARDED_BY(mutex_);
  int num_submitted_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace moed
