#include "parallel/local_communicator.h"

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/core/buffer.h"
#include "kernels/core/check.h"
#include "kernels/core/status.h"
#include "parallel/local_end.h"
#include "parallel/mailbox.h"
#include "parallel/rendezvous.h"

namespace moed {
namespace {

absl::StatusOr<Mailbox> MakeMailbox(size_t num_ranks) {
  Mailbox mailbox;
  for (Mailbox::Mail& mail : mailbox.mails) {
    MOED_ASSIGN_OR_RETURN(mail.payload, AllocateHostBuffer(kMailboxBytes));
    mail.send_rows.resize(num_ranks);
    mail.recv_rows.resize(num_ranks);
  }
  return mailbox;
}

}  // namespace

absl::StatusOr<std::shared_ptr<LocalGroup>> LocalGroup::Create(int num_ranks,
                                                               const LocalGroupOptions& options) {
  MOED_RETURN_IF_ERROR(CheckGroup(num_ranks, options.deadline));
  std::shared_ptr<LocalGroup> group(new LocalGroup(num_ranks));
  group->rendezvous_ = std::make_shared<Rendezvous>(num_ranks, options.deadline);
  group->mailboxes_ = std::make_shared<std::vector<Mailbox>>();
  for (int rank = 0; rank < num_ranks; ++rank) {
    MOED_ASSIGN_OR_RETURN(Mailbox mailbox, MakeMailbox(static_cast<size_t>(num_ranks)));
    group->mailboxes_->push_back(std::move(mailbox));
  }
  return group;
}

LocalGroup::LocalGroup(int num_ranks)
    : num_ranks_(num_ranks), has_end_(static_cast<size_t>(num_ranks), false) {}

LocalGroup::~LocalGroup() = default;

std::unique_ptr<Communicator> LocalGroup::MakeEnd(int rank) {
  MOED_CHECK(rank >= 0 && rank < num_ranks_, "an end for a rank outside the group");
  const auto index = static_cast<size_t>(rank);
  MutexLock lock(mutex_);
  MOED_CHECK(!has_end_[index], "a rank's second end");
  has_end_[index] = true;
  return std::make_unique<LocalEnd>(rank, rendezvous_, mailboxes_);
}

void LocalGroup::Abort(const absl::Status& reason) {
  rendezvous_->Abort(Rendezvous::kOwner, reason);
}

}  // namespace moed
