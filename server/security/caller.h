// Who calls, and what that allows.
#pragma once

#include <cstdint>
#include <string>

namespace moed {

// What a key is for; each role also has what the ones before it have.
enum class Role : uint8_t {
  kUser,     // generate, tokenize, ask about the model
  kMonitor,  // read: metrics and pages, expert load, ranks
  kAdmin,    // abort, drain, log level
};

struct Caller {
  // The key's name, or the peer's address where the server has no keys: for limits and the log,
  // never for another client.
  std::string client;
  Role role = Role::kUser;
};

}  // namespace moed
