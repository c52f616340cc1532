// One rank thread's end of a LocalGroup.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "parallel/collective_call.h"
#include "parallel/communicator.h"
#include "parallel/mailbox.h"
#include "parallel/rendezvous.h"

namespace moed {

// Each collective: leave a mail, meet, copy from the others' memory into one's own, and, where
// memory was lent, meet again before it is used anew.
class LocalEnd final : public Communicator {
 public:
  LocalEnd(int rank, std::shared_ptr<Rendezvous> rendezvous,
           std::shared_ptr<std::vector<Mailbox>> mailboxes);
  ~LocalEnd() override;

  int rank() const override { return rank_; }
  int num_ranks() const override { return num_ranks_; }
  absl::Status AllGather(Stream& stream, const CollectiveTag& tag, ConstTensorView send,
                         TensorView recv) override;
  absl::Status AllToAll(Stream& stream, const CollectiveTag& tag, ConstTensorView send,
                        TensorView recv) override;
  absl::Status AllToAllV(Stream& stream, const CollectiveTag& tag, ConstTensorView send,
                         absl::Span<const int64_t> send_rows, TensorView recv,
                         absl::Span<const int64_t> recv_rows) override;
  absl::Status ExchangeCounts(Stream& stream, const CollectiveTag& tag, int width,
                              absl::Span<const int64_t> send, absl::Span<int64_t> recv) override;
  void Abort(const absl::Status& reason) override;
  CommunicatorStats stats() const override { return stats_; }

 private:
  Mailbox::Mail& NextMail() {
    return (*mailboxes_)[static_cast<size_t>(rank_)].mails[num_met_ % 2];
  }
  // Meets with `call`, which sends `send_bytes` in all, and copies the pieces.
  absl::Status Exchange(CollectiveCall call, int64_t send_bytes, void* recv);
  void CopyPieces(const std::byte* own_send, void* recv);

  const int rank_;
  const int num_ranks_;
  const std::shared_ptr<Rendezvous> rendezvous_;
  const std::shared_ptr<std::vector<Mailbox>> mailboxes_;  // [num_ranks]
  Meeting meeting_;
  uint64_t num_met_ = 0;
  // Kept here, so that a rank that has failed never writes a mail that others still read.
  absl::Status failure_;
  CommunicatorStats stats_;
};

}  // namespace moed
