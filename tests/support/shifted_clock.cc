// Preloaded into a program, moves its wall clock, also while it runs:
//   LD_PRELOAD=libmoed_shifted_clock.so MOED_SHIFTED_CLOCK=FILE moed ...
// FILE holds the shift in seconds, eight bytes of a machine's integer. What waits for a time of the
// wall clock is shifted back on its way to the kernel, whose clock stays as it is.
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdint>
#include <cstdlib>

namespace {

const volatile int64_t* MapShift() {
  const char* path = std::getenv("MOED_SHIFTED_CLOCK");
  if (path == nullptr) return nullptr;
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return nullptr;
  void* const mapped = mmap(nullptr, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  return mapped == MAP_FAILED ? nullptr : static_cast<const volatile int64_t*>(mapped);
}

int64_t Shift() {
  static const volatile int64_t* const kShift = MapShift();
  return kShift == nullptr ? 0 : *kShift;
}

template <typename Function>
Function Next(Function /*type*/, const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

timespec InKernelTime(const timespec& time) {
  return {.tv_sec = time.tv_sec - Shift(), .tv_nsec = time.tv_nsec};
}

bool IsWallClock(clockid_t clock) {
  return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  static const auto kNext = Next(&clock_gettime, "clock_gettime");
  const int result = kNext(clock, time);
  if (result == 0 && IsWallClock(clock)) time->tv_sec += Shift();
  return result;
}

int gettimeofday(timeval* time, void* zone) noexcept {
  static const auto kNext = Next(&gettimeofday, "gettimeofday");
  const int result = kNext(time, zone);
  if (result == 0) time->tv_sec += Shift();
  return result;
}

time_t time(time_t* result) noexcept {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  if (result != nullptr) *result = now.tv_sec;
  return now.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                           const timespec* deadline) {
  static const auto kNext = Next(&pthread_cond_timedwait, "pthread_cond_timedwait");
  // The condition knows its clock and does not tell; the other one's numbers are small.
  constexpr time_t kLongestUptimeSeconds = 1'000'000'000;
  const bool is_wall_clock = deadline->tv_sec > kLongestUptimeSeconds;
  const timespec kernel_time = is_wall_clock ? InKernelTime(*deadline) : *deadline;
  return kNext(condition, mutex, &kernel_time);
}

int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                           const timespec* deadline) {
  static const auto kNext = Next(&pthread_cond_clockwait, "pthread_cond_clockwait");
  const timespec kernel_time = IsWallClock(clock) ? InKernelTime(*deadline) : *deadline;
  return kNext(condition, mutex, clock, &kernel_time);
}

// Abseil waits by this.
long syscall(long number, ...) noexcept {
  static const auto kNext = Next(&syscall, "syscall");
  long arguments[6];
  va_list list;
  va_start(list, number);
  for (long& argument : arguments) argument = va_arg(list, long);
  va_end(list);
  timespec kernel_time = {};
  const auto* deadline = reinterpret_cast<const timespec*>(arguments[3]);
  if (number == SYS_futex && (arguments[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET &&
      (arguments[1] & FUTEX_CLOCK_REALTIME) != 0 && deadline != nullptr) {
    kernel_time = InKernelTime(*deadline);
    arguments[3] = reinterpret_cast<long>(&kernel_time);
  }
  return kNext(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
               arguments[5]);
}

}  // extern "C"
