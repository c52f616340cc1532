// Stacks that take turns on one thread of the operating system. The only file over Boost.Context;
// it also tells the sanitizers what happens.
#pragma once

#include <cstddef>

namespace moed::cuda_host {

// Belongs to the thread that made it.
class Fiber {
 public:
  // The stack that the calling thread came with.
  Fiber();
  // Its first switch calls entry(argument), which never returns. `number` staggers where stacks
  // begin, so that their hot lines do not compete for the same sets of the cache.
  Fiber(void (*entry)(void*), void* argument, int number);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // From this fiber, which runs, to `to`. Under ThreadSanitizer a switch orders nothing.
  void SwitchTo(Fiber& to);
  // What this fiber, which runs, does from now on is to ThreadSanitizer the doing of `context`, one
  // of NewRaceContext.
  void ActAs(void* context);

 private:
  struct Entry;
  struct Jump;

  static void Arrived(const Jump& jump, void* came_from);

  void* context_ = nullptr;
  char* mapping_ = nullptr;  // guard page, then the stack
  const void* stack_bottom_ = nullptr;
  size_t stack_bytes_ = 0;
  void* fake_stack_ = nullptr;    // AddressSanitizer's
  void* race_context_ = nullptr;  // ThreadSanitizer's
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
};

// What ThreadSanitizer takes for a thread. Null in other builds.
void* NewRaceContext();
void DeleteRaceContext(void* context);

// What orders the memory accesses of those for ThreadSanitizer: all before a Release of `point`
// comes before what follows an Acquire of it. Nothing in other builds.
void Release(void* point);
void Acquire(void* point);

}  // namespace moed::cuda_host
