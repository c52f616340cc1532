// Where a rank is in its step, for whoever watches it from another thread.
#pragma once

#include <atomic>
#include <cstdint>

namespace moed {

// Written by the rank's thread, read by any. A reading is for an error text and for telling a rank
// that works from one that hangs; its fields may stem from two beats. Texts are static.
class Heartbeat {
 public:
  struct Reading {
    uint64_t beats = 0;                // grows while the rank makes progress
    int layer = -1;                    // -1: outside the layers
    const char* part = "";             // of the layer or the pass: "attention", "head", ...
    const char* collective = nullptr;  // the step's latest; null: none yet
    int collective_layer = -1;
    bool in_collective = false;  // waits for other ranks, or exchanges with them
  };

  void BeginStep() {
    collective_.store(nullptr, std::memory_order_relaxed);
    EnterPart(-1, "input");
  }
  void EnterPart(int layer, const char* part) {
    layer_.store(layer, std::memory_order_relaxed);
    part_.store(part, std::memory_order_relaxed);
    Beat();
  }
  void EnterCollective(int layer, const char* collective) {
    collective_.store(collective, std::memory_order_relaxed);
    collective_layer_.store(layer, std::memory_order_relaxed);
    in_collective_.store(true, std::memory_order_relaxed);
    Beat();
  }
  void LeaveCollective() {
    in_collective_.store(false, std::memory_order_relaxed);
    Beat();
  }

  Reading Read() const {
    return {.beats = beats_.load(std::memory_order_relaxed),
            .layer = layer_.load(std::memory_order_relaxed),
            .part = part_.load(std::memory_order_relaxed),
            .collective = collective_.load(std::memory_order_relaxed),
            .collective_layer = collective_layer_.load(std::memory_order_relaxed),
            .in_collective = in_collective_.load(std::memory_order_relaxed)};
  }

 private:
  void Beat() { beats_.fetch_add(1, std::memory_order_relaxed); }

  std::atomic<uint64_t> beats_{0};
  std::atomic<int> layer_{-1};
  std::atomic<const char*> part_{""};
  std::atomic<const char*> collective_{nullptr};
  std::atomic<int> collective_layer_{-1};
  std::atomic<bool> in_collective_{false};
};

}  // namespace moed
