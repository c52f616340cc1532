// A rank that throws, fails or hangs: the others are freed, and the error says where.
#include <chrono>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/core/mutex.h"
#include "runtime/engine/thread_worker_group.h"
#include "tests/runtime/engine/worker_group_fixture.h"
#include "tests/support/forwarding_backend.h"

namespace moed {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Runs a hook in one layer's part of one rank, from its second step on.
class FaultyBackend : public ForwardingBackend {
 public:
  struct Fault {
    int rank = 0;
    int layer = 0;
    enum Place { kAttention, kExperts } place = kExperts;
    std::function<void()> hook;
  };

  FaultyBackend(std::unique_ptr<Backend> backend, int rank, const Fault& fault)
      : ForwardingBackend(std::move(backend)), is_mine_(rank == fault.rank), fault_(fault) {}

  void Embed(Stream& stream, const EmbedArgs& args) override {
    ++step_;
    attention_layer_ = 0;
    expert_layer_ = 0;
    ForwardingBackend::Embed(stream, args);
  }
  void PagedAttention(Stream& stream, const PagedAttentionArgs& args) override {
    MaybeFail(Fault::kAttention, attention_layer_++);
    ForwardingBackend::PagedAttention(stream, args);
  }
  void ExpertFfn(Stream& stream, const ExpertFfnArgs& args) override {
    MaybeFail(Fault::kExperts, expert_layer_++);
    ForwardingBackend::ExpertFfn(stream, args);
  }

 private:
  void MaybeFail(Fault::Place place, int layer) {
    if (is_mine_ && step_ >= 2 && place == fault_.place && layer == fault_.layer) fault_.hook();
  }

  const bool is_mine_;
  const Fault fault_;
  int step_ = 0;
  int attention_layer_ = 0;
  int expert_layer_ = 0;
};

ThreadWorkerGroupOptions FaultyGroup(int num_ranks, FaultyBackend::Fault fault) {
  ThreadWorkerGroupOptions options = SmallGroupOptions(num_ranks);
  options.make_backend =
      [fault = std::move(fault)](int rank) -> absl::StatusOr<std::unique_ptr<Backend>> {
    return std::make_unique<FaultyBackend>(*MakeSmallBackend(), rank, fault);
  };
  return options;
}

// Starts the group, runs a good step, and gives the error of the second.
absl::Status ErrorOfSecondStep(ThreadWorkerGroup& group, int num_ranks) {
  const auto started = group.Start(nullptr);
  if (!started.ok()) return started.status();
  const auto first = RunStep(group, OnePromptOnRankZero(1, num_ranks));
  if (!first.ok()) return first.status();
  return RunStep(group, OnePromptOnRankZero(2, num_ranks)).status();
}

TEST(ThreadWorkerGroupFaultTest, AnExceptionFreesTheOthersAndNamesRankLayerAndCollective) {
  ThreadWorkerGroup group(
      FaultyGroup(4, {.rank = 2, .layer = 1, .place = FaultyBackend::Fault::kExperts, .hook = [] {
                        throw std::runtime_error("device is lost");
                      }}));
  const absl::Status error = ErrorOfSecondStep(group, 4);
  EXPECT_EQ(error.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(error.message()),
              AllOf(HasSubstr("rank 2"), HasSubstr("layer 1"), HasSubstr("dispatch"),
                    HasSubstr("device is lost")));
  EXPECT_TRUE(group.Stop());
}

TEST(ThreadWorkerGroupFaultTest, TheGroupStaysBroken) {
  ThreadWorkerGroup group(
      FaultyGroup(2, {.rank = 1, .layer = 0, .place = FaultyBackend::Fault::kAttention, .hook = [] {
                        throw std::bad_alloc();
                      }}));
  const absl::Status error = ErrorOfSecondStep(group, 2);
  EXPECT_THAT(std::string(error.message()),
              AllOf(HasSubstr("rank 1"), HasSubstr("layer 0"), HasSubstr("out of host memory")));
  EXPECT_EQ(group.Launch(OnePromptOnRankZero(3, 2)), error);
  EXPECT_TRUE(group.Stop());
}

TEST(ThreadWorkerGroupFaultTest, AnExceptionOfAnUnknownTypeIsCaughtToo) {
  ThreadWorkerGroup group(FaultyGroup(
      1,
      {.rank = 0, .layer = 1, .place = FaultyBackend::Fault::kAttention, .hook = [] { throw 7; }}));
  const absl::Status error = ErrorOfSecondStep(group, 1);
  EXPECT_EQ(error.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(error.message()), AllOf(HasSubstr("rank 0"), HasSubstr("layer 1")));
  EXPECT_TRUE(group.Stop());
}

// Fails the stream of one rank.
class FailingStreamBackend : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  void Sample(Stream& stream, const SampleArgs& args) override {
    ForwardingBackend::Sample(stream, args);
    has_sampled_ = true;
  }
  absl::Status Synchronize(Stream& stream) override {
    if (has_sampled_) return absl::InternalError("error 700");
    return ForwardingBackend::Synchronize(stream);
  }

 private:
  bool has_sampled_ = false;
};

TEST(ThreadWorkerGroupFaultTest, AnErrorOfTheDeviceNamesItsRank) {
  ThreadWorkerGroupOptions options = SmallGroupOptions(3);
  options.make_backend = [](int rank) -> absl::StatusOr<std::unique_ptr<Backend>> {
    if (rank != 0) return MakeSmallBackend();
    return std::make_unique<FailingStreamBackend>(*MakeSmallBackend());
  };
  ThreadWorkerGroup group(std::move(options));
  ASSERT_TRUE(group.Start(nullptr).ok());
  const absl::Status error = RunStep(group, OnePromptOnRankZero(1, 3)).status();
  EXPECT_EQ(error.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(error.message()), AllOf(HasSubstr("rank 0"), HasSubstr("error 700")));
  EXPECT_TRUE(group.Stop());
}

// Holds a thread until it is opened.
class Gate {
 public:
  void Open() {
    MutexLock lock(mutex_);
    open_ = true;
    opened_.NotifyAll();
  }
  void Wait() {
    MutexLock lock(mutex_);
    while (!open_) opened_.Wait(mutex_);
  }

 private:
  Mutex mutex_;
  CondVar opened_;
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
};

// Opens a gate when the last user of the weights has gone.
class GatedSource : public DummyWeightSource {
 public:
  explicit GatedSource(Gate& gone) : DummyWeightSource(3, DType::kFloat32), gone_(gone) {}
  ~GatedSource() override { gone_.Open(); }

 private:
  Gate& gone_;
};

// The error of a group one of whose ranks hangs, and what Stop said; the rank's thread has ended
// when this returns.
std::pair<absl::Status, bool> RunWithHangingRank(int num_ranks, int rank, int layer) {
  Gate release;
  Gate gone;
  absl::Status error;
  bool stopped = true;
  {
    ThreadWorkerGroupOptions options =
        FaultyGroup(num_ranks, {.rank = rank,
                                .layer = layer,
                                .place = FaultyBackend::Fault::kAttention,
                                .hook = [&release] { release.Wait(); }});
    options.weights = std::make_shared<GatedSource>(gone);
    options.rank_timeout = std::chrono::milliseconds(800);
    ThreadWorkerGroup group(std::move(options));
    error = ErrorOfSecondStep(group, num_ranks);
    stopped = group.Stop();
  }
  release.Open();
  gone.Wait();
  return {error, stopped};
}

TEST(ThreadWorkerGroupFaultTest, AHangingRankIsNamedAndLeftBehind) {
  const auto [error, stopped] = RunWithHangingRank(/*num_ranks=*/3, /*rank=*/1, /*layer=*/1);
  EXPECT_EQ(error.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(error.message()),
              AllOf(HasSubstr("rank 1"), HasSubstr("dispatch counts of layer 1"),
                    HasSubstr("ranks 0, 2 waited there")));
  EXPECT_FALSE(stopped);
}

TEST(ThreadWorkerGroupFaultTest, ASingleRankThatHangsIsNamedToo) {
  const auto [error, stopped] = RunWithHangingRank(/*num_ranks=*/1, /*rank=*/0, /*layer=*/1);
  EXPECT_EQ(error.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(error.message()),
              AllOf(HasSubstr("rank 0, layer 1, attention"), HasSubstr("no progress")));
  EXPECT_FALSE(stopped);
}

}  // namespace
}  // namespace moed
