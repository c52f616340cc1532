// One block while it runs: its threads, barriers and warps. Plain arrays that are never given back,
// for ThreadSanitizer must not see them.
#pragma once

#include <cstdint>

#include "tests/cuda_host/fiber.h"
#include "tests/cuda_host/kernel_launch.h"
#include "tests/cuda_host/thread.h"

namespace moed::cuda_host {

inline constexpr unsigned kMaxThreads = 1024;
inline constexpr unsigned kLanes = 32;
inline constexpr unsigned kMaxWarps = kMaxThreads / kLanes;
inline constexpr unsigned kMaxMasks = 32;  // in use at a time, of one warp
// Threads whose numbers differ by a multiple of this are one to ThreadSanitizer, whose time grows
// with how many it knows. A prime, so that no pattern of powers of two hides in it.
inline constexpr unsigned kRaceContexts = 61;
inline constexpr unsigned kAll = 0xffffffffU;

struct Warp;

struct Thread : ThreadView {
  Fiber* fiber = nullptr;
  Warp* warp = nullptr;
  Thread* next = nullptr;  // in the list that it is in
  bool done = false;
  const char* waits_in = nullptr;  // the call
  Place place;
  unsigned mask = 0;  // of the call; 0: the block's
};

// First in, first out.
struct ThreadList {
  Thread* first = nullptr;
  Thread* last = nullptr;

  void Push(Thread* thread);
  Thread* Pop();
  void Take(ThreadList& other);  // which is empty then
};

struct Barrier {
  unsigned arrived = 0;
  unsigned generation = 0;
  ThreadList waiting;
  // What the first to arrive called.
  const char* call = nullptr;
  Place place;
  unsigned trues[2] = {0, 0};  // BlockCount's, by generation
  char order[2] = {0, 0};      // where accesses are ordered, by generation
};

// The lanes of one mask. Values alternate between two buffers, so that a fast lane's next exchange
// leaves what slow ones still read.
struct MaskGroup {
  unsigned mask = 0;
  Barrier barrier;
  unsigned took_part[2] = {0, 0};
  alignas(64) unsigned char slots[2][kLanes * kMaxExchangeBytes];
};

struct Warp {
  unsigned live = 0;  // lanes that have not returned
  unsigned num_groups = 0;
  MaskGroup all;
  MaskGroup partial[kMaxMasks];
};

struct Block : BlockView {
  unsigned num_threads = 0;
  unsigned live = 0;
  unsigned next_start = 0;  // into start_order
  ThreadList ready;
  Barrier barrier;
  char order_start = 0;
  char order_end = 0;
  Thread threads[kMaxThreads];
  unsigned start_order[kMaxThreads];
  Warp warps[kMaxWarps];
  Fiber* idle[kMaxThreads];  // without a thread
  unsigned num_idle = 0;
  Fiber* finished[kMaxThreads];  // idle from the next block on
  unsigned num_finished = 0;
  unsigned num_fibers = 0;
  void* race_contexts[kRaceContexts];
  const KernelCall* kernel = nullptr;
  Fiber main;
};

// The block of the calling operating-system thread.
Block& ThisBlock();
// Opens the barriers that waited for nobody but `thread`, which has returned.
void OpenWithout(Block& block, const Thread& thread);
// The running fiber gives way to one that can go on, or to a thread that has not started.
void SwitchAway(Block& block, Fiber& from);

}  // namespace moed::cuda_host
