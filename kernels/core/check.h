// MOED_CHECK: for our own bugs only. What a caller can act on is an absl::Status.
#pragma once

namespace moed {

// Prints "file:line: check failed: condition: message" on stderr and aborts the process.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition,
                              const char* message);

}  // namespace moed

#define MOED_CHECK(condition, message)                              \
  do {                                                              \
    if (!(condition)) [[unlikely]] {                                \
      ::moed::CheckFailed(__FILE__, __LINE__, #condition, message); \
    }                                                               \
  } while (false)
