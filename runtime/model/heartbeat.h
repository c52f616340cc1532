// Where a rank is in its step, for whoever watches it from another thread.
#pragma once

#include <atomic>
#include <cstdint>

namespace moed {

// Written by the rank's thread, read by any. A reading is for an error text and for telling a rank
// that works from one that hangs; its fields may stem from two beats.
class Heartbeat {
 public:
  struct Reading {
    uint64_t beats = 0;          // grows while the rank makes progress
    int layer = -1;              // -1: outside the layers
    const char* place = "idle";  // static text: a part of the layer, or a collective
    bool in_collective = false;  // true: waits for other ranks, or exchanges with them
  };

  void Beat(int layer, const char* place, bool in_collective = false) {
    layer_.store(layer, std::memory_order_relaxed);
    place_.store(place, std::memory_order_relaxed);
    in_collective_.store(in_collective, std::memory_order_relaxed);
    beats_.fetch_add(1, std::memory_order_relaxed);
  }

  Reading Read() const {
    return {.beats = beats_.load(std::memory_order_relaxed),
            .layer = layer_.load(std::memory_order_relaxed),
            .place = place_.load(std::memory_order_relaxed),
            .in_collective = in_collective_.load(std::memory_order_relaxed)};
  }

 private:
  std::atomic<uint64_t> beats_{0};
  std::atomic<int> layer_{-1};
  std::atomic<const char*> place_{"idle"};
  std::atomic<bool> in_collective_{false};
};

}  // namespace moed
