// Barriers of a block and of the lanes of a mask, and what lanes exchange at them.
#include <bit>
#include <cstdio>
#include <cstdlib>

#include "tests/cuda_host/block_state.h"

namespace moed::cuda_host {
namespace {

Block& Running() { return *static_cast<Block*>(current_block); }
Thread& Self() { return *static_cast<Thread*>(current_thread); }

void Open(Block& block, Barrier& barrier) {
  barrier.arrived = 0;
  ++barrier.generation;
  for (Thread* thread = barrier.waiting.first; thread != nullptr; thread = thread->next) {
    thread->waits_in = nullptr;
  }
  block.ready.Take(barrier.waiting);
}

// The calling thread is the last of `needed`, or waits for them. `ordered`: what each did to memory
// before is seen by all after.
void Arrive(Block& block, Barrier& barrier, unsigned needed, bool ordered, const char* call,
            const Place& place, unsigned mask) {
  Thread& self = Self();
  const unsigned parity = barrier.generation % 2;
  if (ordered) Release(&barrier.order[parity]);
  if (barrier.arrived == 0) {
    barrier.call = call;
    barrier.place = place;
  } else if (barrier.call != call || barrier.place.line != place.line) {
    self.waits_in = call;
    self.place = place;
    self.mask = mask;
    Fail("divergent barrier: threads meet at different calls", place);
  }
  if (++barrier.arrived == needed) {
    Open(block, barrier);
  } else {
    self.waits_in = call;
    self.place = place;
    self.mask = mask;
    barrier.waiting.Push(&self);
    SwitchAway(block, *self.fiber);
  }
  if (ordered) Acquire(&barrier.order[parity]);
}

// Another lane that waits for this one under another mask would wait for ever.
void CheckMasks(const Warp& warp, const MaskGroup& group, const Place& place) {
  const unsigned self = 1U << Lane();
  const auto conflicts = [&](const MaskGroup& other) {
    if (&other == &group || other.barrier.arrived == 0 || (other.mask & self) == 0) return;
    for (const Thread* lane = other.barrier.waiting.first; lane != nullptr; lane = lane->next) {
      if ((group.mask >> lane->lane & 1U) != 0) {
        char text[128];
        std::snprintf(text, sizeof(text),
                      "wrong mask: lane %u names %08x, lane %u, which waits for it, %08x", Lane(),
                      group.mask, lane->lane, other.mask);
        Fail(text, place);
      }
    }
  };
  conflicts(warp.all);
  for (unsigned i = 0; i < warp.num_groups; ++i) conflicts(warp.partial[i]);
}

MaskGroup& GroupOf(Warp& warp, unsigned mask, const Place& place) {
  if ((mask >> Lane() & 1U) == 0) {
    char text[96];
    std::snprintf(text, sizeof(text), "wrong mask: lane %u calls with %08x, which leaves it out",
                  Lane(), mask);
    Fail(text, place);
  }
  if (mask == kAll) return warp.all;
  for (unsigned i = 0; i < warp.num_groups; ++i) {
    if (warp.partial[i].mask == mask) return warp.partial[i];
  }
  if (warp.num_groups == kMaxMasks) Fail("more masks in one warp than the emulation keeps", place);
  MaskGroup& group = warp.partial[warp.num_groups++];
  group.mask = mask;
  group.barrier.arrived = 0;
  return group;
}

void ArriveInWarp(Block& block, Warp& warp, MaskGroup& group, bool ordered, const char* call,
                  const Place& place) {
  if (warp.num_groups > 0) CheckMasks(warp, group, place);
  Arrive(block, group.barrier, static_cast<unsigned>(std::popcount(group.mask & warp.live)),
         ordered, call, place, group.mask);
}

}  // namespace

void ThreadList::Push(Thread* thread) {
  thread->next = nullptr;
  (first == nullptr ? first : last->next) = thread;
  last = thread;
}

Thread* ThreadList::Pop() {
  Thread* thread = first;
  if (thread != nullptr) first = thread->next;
  return thread;
}

void ThreadList::Take(ThreadList& other) {
  if (other.first == nullptr) return;
  (first == nullptr ? first : last->next) = other.first;
  last = other.last;
  other.first = nullptr;
}

void OpenWithout(Block& block, const Thread& thread) {
  // A thread that has returned counts as arrived (CUDA C++ Programming Guide, sm_70 and later).
  if (block.barrier.arrived > 0 && block.barrier.arrived == block.live) Open(block, block.barrier);
  Warp& warp = *thread.warp;
  const auto open = [&](MaskGroup& group) {
    if (group.barrier.arrived > 0 &&
        group.barrier.arrived == static_cast<unsigned>(std::popcount(group.mask & warp.live))) {
      Open(block, group.barrier);
    }
  };
  open(warp.all);
  for (unsigned i = 0; i < warp.num_groups; ++i) open(warp.partial[i]);
}

void BlockBarrier(const char* call, Place place) {
  Block& block = Running();
  Arrive(block, block.barrier, block.live, /*ordered=*/true, call, place, 0);
}

int BlockCount(bool value, const char* call, Place place) {
  Block& block = Running();
  const unsigned parity = block.barrier.generation % 2;
  if (block.barrier.arrived == 0) block.barrier.trues[parity] = 0;
  if (value) ++block.barrier.trues[parity];
  Arrive(block, block.barrier, block.live, /*ordered=*/true, call, place, 0);
  return static_cast<int>(block.barrier.trues[parity]);
}

void WarpBarrier(unsigned mask, const char* call, Place place) {
  Warp& warp = *Self().warp;
  ArriveInWarp(Running(), warp, GroupOf(warp, mask, place), /*ordered=*/true, call, place);
}

ExchangeSlots ExchangeBytes(unsigned mask, const void* value, size_t bytes, const char* call,
                            Place place) {
  Warp& warp = *Self().warp;
  MaskGroup& group = GroupOf(warp, mask, place);
  const unsigned parity = group.barrier.generation % 2;
  unsigned char* slot = group.slots[parity] + Lane() * kMaxExchangeBytes;
  for (size_t i = 0; i < bytes; ++i) slot[i] = static_cast<const unsigned char*>(value)[i];
  if (group.barrier.arrived == 0) group.took_part[parity] = 0;
  group.took_part[parity] |= 1U << Lane();
  ArriveInWarp(Running(), warp, group, /*ordered=*/false, call, place);
  return {group.slots[parity], group.took_part[parity]};
}

void Yield() {
  Block& block = Running();
  Thread& self = Self();
  block.ready.Push(&self);
  SwitchAway(block, *self.fiber);
}

unsigned LiveLanes() { return Self().warp->live; }

void FailAbsentLane(unsigned lane, unsigned lanes) {
  char text[128];
  std::snprintf(text, sizeof(text),
                "wrong mask: lane %u reads from lane %u, which took no part (lanes %08x did)",
                Lane(), lane, lanes);
  Fail(text);
}

}  // namespace moed::cuda_host
