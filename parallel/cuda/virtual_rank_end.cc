#include "parallel/cuda/virtual_rank_end.h"

#include <chrono>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/core/status.h"

namespace moed::cuda {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

VirtualRankEnd::VirtualRankEnd(int rank, std::shared_ptr<VirtualRankState> state)
    : rank_(rank), num_ranks_(static_cast<int>(state->ranks.size())), state_(std::move(state)) {
  meeting_.calls.resize(state_->ranks.size());
}

VirtualRankEnd::~VirtualRankEnd() { state_->rendezvous.Leave(rank_); }

absl::Status VirtualRankEnd::AllGather(Stream& stream, const CollectiveTag& tag,
                                       ConstTensorView send, TensorView recv) {
  return Exchange(static_cast<CudaStream&>(stream), AllGatherCall(num_ranks_, tag, send, recv),
                  recv.raw());
}

absl::Status VirtualRankEnd::AllToAll(Stream& stream, const CollectiveTag& tag,
                                      ConstTensorView send, TensorView recv) {
  return Exchange(static_cast<CudaStream&>(stream), AllToAllCall(num_ranks_, tag, send, recv),
                  recv.raw());
}

absl::Status VirtualRankEnd::AllToAllV(Stream& stream, const CollectiveTag& tag,
                                       ConstTensorView send, absl::Span<const int64_t> send_rows,
                                       TensorView recv, absl::Span<const int64_t> recv_rows) {
  return Exchange(static_cast<CudaStream&>(stream),
                  AllToAllVCall(num_ranks_, tag, send, send_rows, recv, recv_rows), recv.raw());
}

absl::Status VirtualRankEnd::ExchangeCounts(Stream& stream, const CollectiveTag& tag, int width,
                                            absl::Span<const int64_t> send,
                                            absl::Span<int64_t> recv) {
  CollectiveCall call = ExchangeCountsCall(num_ranks_, tag, width, send, recv);
  MOED_RETURN_IF_ERROR(failure_);
  const ProfilerRange range(state_->api, tag.operation);
  const absl::Status run = static_cast<CudaStream&>(stream).Synchronize();
  if (!run.ok()) state_->rendezvous.Abort(rank_, run);
  std::vector<int64_t>& counts = RankState(rank_).counts[num_count_exchanges_++ % 2];
  counts.assign(send.begin(), send.end());
  call.send = reinterpret_cast<const std::byte*>(counts.data());
  MOED_RETURN_IF_ERROR(Arrive(call));
  auto* out = reinterpret_cast<std::byte*>(recv.data());
  for (const CollectiveCall& sender : meeting_.calls) {
    const auto bytes = static_cast<size_t>(PieceBytes(sender, rank_));
    if (bytes > 0) std::memcpy(out, sender.send + PieceOffsetBytes(sender, rank_), bytes);
    out += bytes;
  }
  return absl::OkStatus();
}

void VirtualRankEnd::Abort(const absl::Status& reason) { state_->rendezvous.Abort(rank_, reason); }

absl::Status VirtualRankEnd::Exchange(CudaStream& stream, CollectiveCall call, void* recv) {
  MOED_RETURN_IF_ERROR(failure_);
  const ProfilerRange range(state_->api, call.tag.operation);
  // The others' streams read it, after this call too; and the counts are the caller's own.
  call.lends_send = true;
  AbortOnError(stream, state_->api.record_event(RankState(rank_).ready, stream.handle()));
  if (absl::Status status = Arrive(call); !status.ok()) {
    // Who met before the failure may copy from here; an event not recorded since costs nothing.
    for (int peer = 0; peer < num_ranks_; ++peer) {
      if (peer != rank_) WaitForDone(stream, peer);
    }
    return status;
  }
  CopyPieces(stream, recv);
  const CudaError recorded = state_->api.record_event(RankState(rank_).done, stream.handle());
  AbortOnError(stream, recorded);
  // Nobody can wait for these copies on the device then.
  if (recorded != kCudaSuccess) stream.Synchronize().IgnoreError();
  failure_ = Depart();
  WaitForReaders(stream);
  return failure_;
}

absl::Status VirtualRankEnd::Arrive(const CollectiveCall& call) {
  const auto start = std::chrono::steady_clock::now();
  failure_ = state_->rendezvous.Arrive(rank_, call, meeting_);
  stats_.wait_seconds += SecondsSince(start);
  MOED_RETURN_IF_ERROR(failure_);
  const CollectiveCall& own = meeting_.calls[static_cast<size_t>(rank_)];
  for (int peer = 0; peer < num_ranks_; ++peer) {
    if (peer == rank_) continue;
    stats_.bytes_sent += PieceBytes(own, peer);
    stats_.bytes_received += PieceBytes(meeting_.calls[static_cast<size_t>(peer)], rank_);
  }
  return absl::OkStatus();
}

absl::Status VirtualRankEnd::Depart() {
  const auto start = std::chrono::steady_clock::now();
  absl::Status status = state_->rendezvous.Depart(rank_);
  stats_.wait_seconds += SecondsSince(start);
  return status;
}

void VirtualRankEnd::CopyPieces(CudaStream& stream, void* recv) {
  auto* out = static_cast<std::byte*>(recv);
  for (int sender = 0; sender < num_ranks_; ++sender) {
    const CollectiveCall& call = meeting_.calls[static_cast<size_t>(sender)];
    const int64_t bytes = PieceBytes(call, rank_);
    if (bytes == 0) continue;
    if (sender != rank_) {
      AbortOnError(stream, state_->api.wait_event(stream.handle(), RankState(sender).ready));
    }
    AbortOnError(stream, state_->api.copy(out, call.send + PieceOffsetBytes(call, rank_),
                                          static_cast<size_t>(bytes), stream.handle()));
    out += bytes;
  }
}

void VirtualRankEnd::WaitForReaders(CudaStream& stream) {
  const CollectiveCall& own = meeting_.calls[static_cast<size_t>(rank_)];
  for (int reader = 0; reader < num_ranks_; ++reader) {
    if (reader == rank_ || PieceBytes(own, reader) == 0) continue;
    WaitForDone(stream, reader);
  }
}

void VirtualRankEnd::WaitForDone(CudaStream& stream, int peer) {
  void* const done = RankState(peer).done;
  const CudaError waits = state_->api.wait_event(stream.handle(), done);
  if (waits == kCudaSuccess) [[likely]]
    return;
  AbortOnError(stream, waits);
  state_->api.synchronize_event(
      done);  // on the host instead, for the peer reads this rank's memory
}

void VirtualRankEnd::AbortOnError(CudaStream& stream, CudaError error) {
  if (error == kCudaSuccess) [[likely]]
    return;
  const absl::Status status =
      CudaStatus(state_->api, error, "enqueuing an exchange between ranks of one device");
  stream.Note(status);
  state_->rendezvous.Abort(rank_, status);
}

}  // namespace moed::cuda
