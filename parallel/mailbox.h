// What a rank thread leaves behind for the others.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/core/buffer.h"

namespace moed {

// Payloads up to this size are copied here, so that the sender need not wait until all have read
// them: one round of waking instead of two. Larger ones are read where they lie.
inline constexpr int64_t kMailboxBytes = int64_t{64} << 10;

// A rank's two mails: it writes the next while others may still read the last. It cannot write one
// anew before every rank has come to the collective after it, and so has read it.
struct Mailbox {
  struct Mail {
    Buffer payload;                  // kMailboxBytes
    std::vector<int64_t> send_rows;  // [num_ranks]
    std::vector<int64_t> recv_rows;  // [num_ranks]
  };
  std::array<Mail, 2> mails;
};

}  // namespace moed
