#include "tests/cuda_host/fiber.h"

#include <sys/mman.h>

#include <boost/context/detail/fcontext.hpp>
#include <cstdint>

#include "kernels/core/check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(MOED_CUDA_HOST_RACES)  // this file itself is compiled without ThreadSanitizer
#include <sanitizer/tsan_interface.h>
#endif

namespace moed::cuda_host {
namespace {

namespace context = boost::context::detail;

constexpr size_t kGuardBytes = 4096;
#if defined(__SANITIZE_ADDRESS__) || defined(MOED_CUDA_HOST_RACES)
constexpr size_t kStackBytes = 256 * 1024;
#else
constexpr size_t kStackBytes = 128 * 1024;
#endif
// Not a multiple of what a cache level indexes by.
constexpr size_t kMappingBytes = kGuardBytes + kStackBytes + kGuardBytes;

}  // namespace

struct Fiber::Jump {
  Fiber* from;
  Fiber* to;
};

struct Fiber::Entry {
  static void Run(context::transfer_t transfer) {
    const Jump jump = *static_cast<Jump*>(transfer.data);
    Arrived(jump, transfer.fctx);
    jump.to->entry_(jump.to->argument_);
    CheckFailed(__FILE__, __LINE__, "false", "a fiber's entry returned");
  }
};

Fiber::Fiber() {
#if defined(MOED_CUDA_HOST_RACES)
  race_context_ = __tsan_get_current_fiber();
#endif
}

Fiber::Fiber(void (*entry)(void*), void* argument, int number)
    : entry_(entry), argument_(argument) {
  void* mapping = mmap(nullptr, kMappingBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  MOED_CHECK(mapping != MAP_FAILED, "no memory for the stack of a CUDA thread");
  MOED_CHECK(mprotect(mapping, kGuardBytes, PROT_NONE) == 0, "mprotect");
  mapping_ = static_cast<char*>(mapping);
  stack_bottom_ = mapping_ + kGuardBytes;
  stack_bytes_ = kStackBytes + kGuardBytes - static_cast<size_t>(number % 12) * 320;
  context_ =
      context::make_fcontext(mapping_ + kGuardBytes + stack_bytes_, stack_bytes_, Entry::Run);
}

Fiber::~Fiber() {
  if (mapping_ == nullptr) return;
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(stack_bottom_, stack_bytes_);
#endif
  munmap(mapping_, kMappingBytes);
}

void Fiber::SwitchTo(Fiber& to) {
  Jump jump{this, &to};
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fake_stack_, to.stack_bottom_, to.stack_bytes_);
#endif
#if defined(MOED_CUDA_HOST_RACES)
  if (to.race_context_ == nullptr) to.race_context_ = race_context_;  // until it acts as another
  __tsan_switch_to_fiber(to.race_context_, __tsan_switch_to_fiber_no_sync);
#endif
  const context::transfer_t transfer = context::jump_fcontext(to.context_, &jump);
  Arrived(*static_cast<Jump*>(transfer.data), transfer.fctx);
}

void Fiber::Arrived(const Jump& jump, void* came_from) {
  jump.from->context_ = came_from;
#if defined(__SANITIZE_ADDRESS__)
  // Where the stack lies that was left; of a thread's own one nothing else tells.
  __sanitizer_finish_switch_fiber(jump.to->fake_stack_, &jump.from->stack_bottom_,
                                  &jump.from->stack_bytes_);
#endif
}

void Fiber::ActAs([[maybe_unused]] void* context) {
#if defined(MOED_CUDA_HOST_RACES)
  race_context_ = context;
  __tsan_switch_to_fiber(context, __tsan_switch_to_fiber_no_sync);
#endif
}

void* NewRaceContext() {
#if defined(MOED_CUDA_HOST_RACES)
  return __tsan_create_fiber(0);
#else
  return nullptr;
#endif
}

void DeleteRaceContext([[maybe_unused]] void* context) {
#if defined(MOED_CUDA_HOST_RACES)
  __tsan_destroy_fiber(context);
#endif
}

void Release([[maybe_unused]] void* point) {
#if defined(MOED_CUDA_HOST_RACES)
  __tsan_release(point);
#endif
}

void Acquire([[maybe_unused]] void* point) {
#if defined(MOED_CUDA_HOST_RACES)
  __tsan_acquire(point);
#endif
}

}  // namespace moed::cuda_host
