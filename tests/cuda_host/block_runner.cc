#include "tests/cuda_host/block_runner.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>

#include "tests/cuda_host/block_order.h"
#include "tests/cuda_host/block_state.h"

namespace moed::cuda_host {

constinit thread_local ThreadView* current_thread = nullptr;
constinit thread_local BlockView* current_block = nullptr;

namespace {

#if defined(MOED_CUDA_HOST_RACES)
// What two CUDA threads keep on one stack would be a race of theirs.
constexpr bool kFiberPerThread = true;
#else
constexpr bool kFiberPerThread = false;
#endif
constexpr unsigned char kFill = 0xCD;  // shared memory starts undefined
constexpr size_t kCanaryBytes = 64;

std::atomic<BlockOrder> block_order{BlockOrder::kForward};
std::atomic<uint32_t> block_seed{1};

// Shuffles as the seed says, on any platform alike.
class Shuffler {
 public:
  explicit Shuffler(uint32_t seed) : state_(seed * 0x9e3779b97f4a7c15ULL + 1) {}
  uint64_t Below(uint64_t bound) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return (state_ >> 16) % bound;
  }

 private:
  uint64_t state_;
};

// Runs threads of blocks until the process ends: the next one that has not started, else it gives
// way for good.
void RunThreads(void* argument) {
  Block& block = *static_cast<Block*>(argument);
  for (;;) {
    Thread& thread = block.threads[block.start_order[block.next_start++]];
    Fiber& fiber = *thread.fiber;
    current_thread = &thread;
    fiber.ActAs(block.race_contexts[thread.linear % kRaceContexts]);
    Acquire(&block.order_start);
    block.kernel->thread();
    Release(&block.order_end);
    thread.done = true;
    --block.live;
    thread.warp->live &= ~(1U << thread.lane);
    OpenWithout(block, thread);
    if (!kFiberPerThread && block.next_start < block.num_threads) {
      block.threads[block.start_order[block.next_start]].fiber = &fiber;
      continue;
    }
    block.finished[block.num_finished++] = &fiber;
    SwitchAway(block, fiber);
  }
}

void PrintWaiting(const Block& block) {
  for (unsigned i = 0; i < block.num_threads;) {
    const Thread& thread = block.threads[i];
    unsigned end = i + 1;
    while (end < block.num_threads) {
      const Thread& next = block.threads[end];
      if (next.done != thread.done ||
          (!thread.done && (next.waits_in != thread.waits_in ||
                            next.place.line != thread.place.line || next.mask != thread.mask))) {
        break;
      }
      ++end;
    }
    std::fprintf(stderr, "  threads %u-%u: ", i, end - 1);
    if (thread.done) {
      std::fprintf(stderr, "returned\n");
    } else if (thread.waits_in == nullptr) {
      std::fprintf(stderr, "ready\n");
    } else {
      std::fprintf(stderr, "wait in %s at %s:%u", thread.waits_in, thread.place.file,
                   thread.place.line);
      if (thread.mask != 0) std::fprintf(stderr, ", lane mask %08x", thread.mask);
      std::fprintf(stderr, "\n");
    }
    i = end;
  }
}

void StartBlock(Block& block) {
  block.live = block.num_threads;
  block.next_start = 0;
  block.num_finished = 0;
  block.barrier.arrived = 0;
  for (unsigned w = 0; w * kLanes < block.num_threads; ++w) {
    block.warps[w].live = 0;
    block.warps[w].num_groups = 0;
    block.warps[w].all.mask = kAll;
    block.warps[w].all.barrier.arrived = 0;
  }
  for (unsigned i = 0; i < block.num_threads; ++i) {
    Thread& thread = block.threads[i];
    thread.index = {i % block.block_size.x, i / block.block_size.x % block.block_size.y,
                    i / (block.block_size.x * block.block_size.y)};
    thread.linear = i;
    thread.lane = i % kLanes;
    thread.warp = &block.warps[i / kLanes];
    thread.warp->live |= 1U << thread.lane;
    thread.done = false;
    thread.waits_in = nullptr;
  }
}

Fiber* NewFiber(Block& block) {
  return new Fiber(RunThreads, &block, static_cast<int>(block.num_fibers++));
}

void RunBlock(Block& block) {
  StartBlock(block);
  // Made here, for a CUDA thread that maps a stack has touched it.
  while (kFiberPerThread && block.num_idle < block.num_threads) {
    block.idle[block.num_idle++] = NewFiber(block);
  }
  Release(&block.order_start);
  SwitchAway(block, block.main);
  Acquire(&block.order_end);
  for (unsigned i = 0; i < block.num_finished; ++i)
    block.idle[block.num_idle++] = block.finished[i];
}

// The block's dynamic shared memory, exactly as long as asked for where red zones guard its end; a
// canary does so elsewhere.
class SharedMemory {
 public:
  explicit SharedMemory(size_t bytes) : bytes_(bytes) {
#if !defined(__SANITIZE_ADDRESS__)
    bytes += kCanaryBytes;
#endif
    void* memory = nullptr;
    if (posix_memalign(&memory, 128, bytes) != 0) Fail("no memory for shared memory");
    memory_ = static_cast<unsigned char*>(memory);
  }
  ~SharedMemory() { std::free(memory_); }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  void* data() const { return memory_; }
  void Fill() {
#if defined(__SANITIZE_ADDRESS__)
    std::memset(memory_, kFill, bytes_);
#else
    std::memset(memory_, kFill, bytes_ + kCanaryBytes);
#endif
  }
  void Check() const {
#if !defined(__SANITIZE_ADDRESS__)
    for (size_t i = 0; i < kCanaryBytes; ++i) {
      if (memory_[bytes_ + i] != kFill) Fail("a write past the end of dynamic shared memory");
    }
#endif
  }

 private:
  size_t bytes_;
  unsigned char* memory_ = nullptr;
};

}  // namespace

void SetBlockOrder(BlockOrder order, uint32_t seed) {
  block_order = order;
  block_seed = seed;
}

Block& ThisBlock() {
  struct Owner {
    Owner() {
      void* memory = mmap(nullptr, sizeof(Block), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED) Fail("no memory for the emulation");
      block = new (memory) Block;
      for (void*& context : block->race_contexts) context = NewRaceContext();
    }
    ~Owner() {
      for (unsigned i = 0; i < block->num_idle; ++i) delete block->idle[i];
      for (void* context : block->race_contexts) DeleteRaceContext(context);
      block->~Block();
      munmap(block, sizeof(Block));
    }
    Block* block;
  };
  static thread_local Owner owner;
  return *owner.block;
}

void SwitchAway(Block& block, Fiber& from) {
  if (block.next_start < block.num_threads) {
    // The fiber takes the thread when it runs.
    Fiber* fiber = block.num_idle > 0 ? block.idle[--block.num_idle] : NewFiber(block);
    block.threads[block.start_order[block.next_start]].fiber = fiber;
    from.SwitchTo(*fiber);
    return;
  }
  if (Thread* thread = block.ready.Pop(); thread != nullptr) {
    current_thread = thread;
    if (thread->fiber != &from) from.SwitchTo(*thread->fiber);
    return;
  }
  if (block.live > 0) Fail("divergent barrier: all threads that have not returned wait");
  current_thread = nullptr;
  from.SwitchTo(block.main);
}

void RunKernel(const KernelCall& call) {
  if (current_thread != nullptr) Fail("a kernel was run by a kernel");
  Block& block = ThisBlock();
  block.block_size = call.block;
  block.grid_size = call.grid;
  block.num_threads = call.block.x * call.block.y * call.block.z;
  block.kernel = &call;
  SharedMemory shared(call.shared_bytes);
  block.dynamic_shared = shared.data();
  current_block = &block;

  const BlockOrder order = block_order;
  Shuffler shuffler(block_seed);
  const uint64_t num_blocks = uint64_t{call.grid.x} * call.grid.y * call.grid.z;
  for (unsigned i = 0; i < block.num_threads; ++i) {
    block.start_order[i] = order == BlockOrder::kReverse ? block.num_threads - 1 - i : i;
  }
  // A walk by a step that shares no divisor with the count visits each block once.
  uint64_t step = 1;
  uint64_t first = 0;
  if (order == BlockOrder::kSeeded) {
    first = shuffler.Below(num_blocks);
    do {
      step = 1 + shuffler.Below(num_blocks);
    } while (std::gcd(step, num_blocks) != 1);
  }
  for (uint64_t n = 0; n < num_blocks; ++n) {
    uint64_t id = n;
    if (order == BlockOrder::kReverse) id = num_blocks - 1 - n;
    if (order == BlockOrder::kSeeded) {
      id = (first + n * step) % num_blocks;
      for (unsigned i = block.num_threads - 1; i > 0; --i) {
        std::swap(block.start_order[i], block.start_order[shuffler.Below(i + 1)]);
      }
    }
    block.index = {static_cast<unsigned>(id % call.grid.x),
                   static_cast<unsigned>(id / call.grid.x % call.grid.y),
                   static_cast<unsigned>(id / (uint64_t{call.grid.x} * call.grid.y))};
    shared.Fill();
#if defined(__SANITIZE_ADDRESS__)
    static std::mutex one_at_a_time;  // static shared memory is the process's
    const std::lock_guard<std::mutex> lock(one_at_a_time);
#endif
    RunBlock(block);
    shared.Check();
  }
  current_block = nullptr;
}

void Fail(const char* what, Place place) {
  std::fprintf(stderr, "CUDA emulation: %s", what);
  if (current_block != nullptr) {
    const Block& block = *static_cast<Block*>(current_block);
    std::fprintf(stderr, "\n  in kernel %s, block (%u, %u, %u)", block.kernel->expression,
                 block.index.x, block.index.y, block.index.z);
    if (current_thread != nullptr) {
      std::fprintf(stderr, ", thread %u (lane %u of warp %u) at %s:%u", current_thread->linear,
                   current_thread->lane, current_thread->linear / kLanes, place.file, place.line);
    }
    std::fprintf(stderr, "\n");
    PrintWaiting(block);
  } else {
    std::fprintf(stderr, "\n");
  }
  std::abort();
}

}  // namespace moed::cuda_host
