// Lists on their way to the device, and what a row does not depend on: its batch.
#include <cmath>
#include <numeric>
#include <string>

#include "absl/status/status.h"
#include "tests/cuda_host/launch_log.h"
#include "tests/kernels/cuda/sampling_fixture.h"

namespace moed::cuda {
namespace {

using SampleListsTest = SamplingTest;

int64_t Launches(const std::string& kernel) {
  const auto counts = cuda_host::LaunchCounts();
  const auto at = counts.find(kernel);
  return at == counts.end() ? 0 : at->second;
}

// Lists of several times the staging memory: a long one of one row, and long ones of many.
TEST_F(SampleListsTest, ListsLongerThanTheStagingMemoryComeInPieces) {
  constexpr int32_t kVocab = 3000;
  constexpr int kRows = 40;
  std::mt19937 engine(3);
  std::vector<RowWithLists> requests(kRows);
  for (int i = 0; i < kRows; ++i) {
    RowWithLists& request = requests[static_cast<size_t>(i)];
    request.row = Row(i % 2 == 0 ? 0.0F : 1.0F);
    request.row.slot = i;
    request.row.seed = static_cast<uint64_t>(i);
    request.row.presence_penalty = 0.25F;
    request.row.repetition_penalty = 1.25F;
    for (int32_t id = 0; id < kVocab; ++id) {
      request.seen.push_back({id, static_cast<int32_t>(engine() % 3), engine() % 2 == 0});
      request.logit_bias.push_back({id, static_cast<float>(engine() % 100) * 0.03F});
      if (engine() % 8 != 0) request.allowed.push_back(id);
    }
  }
  // 300,000 words in one list.
  for (int32_t i = 0; i < 300000; ++i) {
    requests[7].suppressed.push_back(static_cast<int32_t>(engine() % (kVocab - 2)));
  }
  std::vector<SamplingRow> rows;
  for (const RowWithLists& request : requests) rows.push_back(request.Get());
  const Tensor logits = Tensor::Random(DType::kFloat32, {kRows, kVocab}, 6, 2.0F);
  cuda_host::ResetLaunchCounts();
  ExpectAsReference(logits, rows, "long lists");
  EXPECT_GE(Launches("AdjustLogitsKernel"), 4);
  EXPECT_EQ(Launches("ChooseTokenKernel"), 1);
}

TEST_F(SampleListsTest, WhatFitsGoesInOnePieceAndRowsWithoutListsInNone) {
  const Tensor logits = Tensor::Random(DType::kFloat32, {3, 500}, 6, 2.0F);
  RowWithLists request;
  request.suppressed = {1, 2};
  SamplingRow penalised = Row(1);  // a penalty without tokens
  penalised.presence_penalty = 1;
  std::vector<SamplingRow> rows = {Row(0), request.Get(), penalised};
  cuda_host::ResetLaunchCounts();
  SampleOnDevice(logits, rows);
  EXPECT_EQ(Launches("AdjustLogitsKernel"), 1);
  rows[1] = Row(1);
  SampleOnDevice(logits, rows);
  EXPECT_EQ(Launches("AdjustLogitsKernel"), 1);
  EXPECT_EQ(Launches("ChooseTokenKernel"), 2);
  EXPECT_EQ(Launches("LogSoftmaxKernel"), 2);
}

// Nothing has run when Sample returns; its lists have been read all the same.
TEST_F(SampleListsTest, TheHostsListsAreReadWhenSampleReturns) {
  const Tensor logits = Tensor::Of(DType::kFloat32, {1, 4}, {4, 3, 2, 1});
  RowWithLists request;
  request.row = Row(0);
  request.suppressed = {0, 1};
  request.logit_bias = {{3, 5.0F}};
  SampleCall call = Enqueue(stream(), logits, {request.Get()});
  request.suppressed = {3, 3};
  request.logit_bias = {{2, 50.0F}};
  call.rows[0] = Row(0);
  EXPECT_EQ(Finish(call).tokens.int_at(0), 3);
}

// Calls are enqueued faster than the device takes them: staging memory must not be written anew
// before it has been copied.
TEST_F(SampleListsTest, CallsInFlightKeepTheirOwnLists) {
  constexpr int32_t kVocab = 9;
  const Tensor logits = Tensor::Of(DType::kFloat32, {1, kVocab}, std::vector<float>(kVocab, 0.0F));
  std::vector<SampleCall> calls;
  for (int32_t i = 0; i < kVocab; ++i) {
    RowWithLists request;
    request.row = Row(0);
    request.logit_bias = {{i, 1.0F}};
    calls.push_back(Enqueue(stream(), logits, {request.Get()}));
  }
  for (int32_t i = 0; i < kVocab; ++i) {
    EXPECT_EQ(Finish(calls[static_cast<size_t>(i)]).tokens.int_at(0), i);
  }
}

TEST_F(SampleListsTest, ARowGetsTheSameBitsAtEveryPlaceOfABatch) {
  constexpr int64_t kVocab = 1777;
  constexpr int32_t kRows = 5;
  const Tensor row_logits = Tensor::Random(DType::kFloat32, {1, kVocab}, 5, 2.0F);
  RowWithLists request;
  request.row = Row(1.1F, 300, 0.97F, 0.001F);
  request.row.typical_p = 0.95F;
  request.row.repetition_penalty = 1.2F;
  request.row.frequency_penalty = 0.2F;
  request.row.seed = 99;
  for (int32_t id = 0; id < 100; ++id) request.seen.push_back({id * 7, id % 4, true});
  request.logit_bias = {{3, 1.0F}, {776, 4.0F}};
  request.suppressed = {0, 5};
  const Sampled alone = SampleOnDevice(row_logits, {request.Get()});
  for (int32_t place = 0; place < kRows; ++place) {
    Tensor logits =
        Tensor::Random(DType::kFloat32, {kRows, kVocab}, 100 + static_cast<uint32_t>(place), 3.0F);
    for (int64_t id = 0; id < kVocab; ++id) logits.set(place * kVocab + id, row_logits.at(id));
    std::vector<SamplingRow> rows(kRows, Row(2));
    for (int32_t i = 0; i < kRows; ++i) rows[static_cast<size_t>(i)].slot = i;
    rows[static_cast<size_t>(place)] = request.Get();
    rows[static_cast<size_t>(place)].slot = place;
    const Sampled got = SampleOnDevice(logits, rows);
    EXPECT_EQ(got.tokens.int_at(place), alone.tokens.int_at(0)) << "place " << place;
    EXPECT_EQ(got.last_sampled.int_at(place), alone.tokens.int_at(0)) << "place " << place;
    EXPECT_EQ(got.logprobs.bytes(place, 1), alone.logprobs.bytes()) << "place " << place;
    EXPECT_EQ(got.top_logprobs.bytes(place, 1), alone.top_logprobs.bytes()) << "place " << place;
  }
}

TEST_F(SampleListsTest, MoreRowsThanFitAtOnceGoThroughInSeveralPieces) {
  constexpr int kRows = 1030;
  constexpr int32_t kVocab = 5;
  Prepare(2000, kVocab);
  std::vector<float> logits;
  std::vector<int32_t> wanted;
  for (int i = 0; i < kRows; ++i) {
    for (int id = 0; id < kVocab; ++id) logits.push_back(id == i % kVocab ? 9.0F : 0.0F);
    wanted.push_back(i % kVocab);
  }
  cuda_host::ResetLaunchCounts();
  const Tensor tensor = Tensor::Of(DType::kFloat32, {kRows, kVocab}, logits);
  EXPECT_EQ(SampleOnDevice(tensor, std::vector<SamplingRow>(kRows, Row(0))).tokens.ints(), wanted);
  EXPECT_EQ(Launches("ChooseTokenKernel"), 2);
}

// Adjusted logits have 64 MiB: one row of a huge vocabulary.
TEST_F(SampleListsTest, RowsWithListsShareTheMemoryForAdjustedLogits) {
  Prepare(6, int64_t{12} << 20);
  const Tensor logits = Tensor::Random(DType::kFloat32, {6, 50}, 2);
  std::vector<RowWithLists> requests(6);
  std::vector<SamplingRow> rows;
  for (int32_t i = 0; i < 6; ++i) {
    RowWithLists& request = requests[static_cast<size_t>(i)];
    request.row = Row(i % 3 == 0 ? 0.0F : 1.0F);
    request.row.slot = i;
    if (i != 2) request.suppressed = {i, i + 7};
    if (i == 4) request.allowed = {4, 9, 30};
  }
  for (const RowWithLists& request : requests) rows.push_back(request.Get());
  cuda_host::ResetLaunchCounts();
  ExpectAsReference(logits, rows, "one adjusted row at a time");
  EXPECT_EQ(Launches("ChooseTokenKernel"), 5);
}

TEST_F(SampleListsTest, ACallAllocatesNothing) {
  const Tensor logits = Tensor::Random(DType::kFloat32, {2, 300}, 2);
  RowWithLists request;
  request.row = Row(1, 20);
  request.suppressed = std::vector<int32_t>(300000, 7);
  std::vector<SampleCall> calls;
  calls.push_back(Enqueue(stream(), logits, {Row(0), request.Get()}));
  Run();
  SampleCall& call = calls[0];
  const cuda_host::LiveObjects before = cuda_host::CountLiveObjects();
  SampleArgs args;
  args.logits = call.logits.View({2, 300});
  args.rows = call.rows;
  args.last_sampled = call.last_sampled.View();
  args.token_ids = call.tokens.View();
  args.logprobs = call.logprobs.View();
  kernels().Sample(stream(), args);
  const cuda_host::LiveObjects after = cuda_host::CountLiveObjects();
  EXPECT_EQ(after.allocations, before.allocations);
  EXPECT_EQ(after.pinned_allocations, before.pinned_allocations);
  EXPECT_EQ(after.events, before.events);
  Run();
}

TEST_F(SampleListsTest, NoRowsIsNoWorkEvenWithoutAWorkspace) {
  Prepare(0, 0);
  cuda_host::ResetLaunchCounts();
  SampleOnDevice(Tensor(DType::kFloat32, {0, 100}), {});
  EXPECT_TRUE(cuda_host::LaunchCounts().empty());
}

TEST_F(SampleListsTest, AFailedCopyIsNotedOnTheStream) {
  const Tensor logits = Tensor::Random(DType::kFloat32, {1, 30}, 2);
  SampleCall call = Enqueue(stream(), logits, {Row(0)});
  Run();
  SampleArgs args;
  args.logits = call.logits.View({1, 30});
  args.rows = call.rows;
  args.last_sampled = call.last_sampled.View();
  args.token_ids = call.tokens.View();
  args.logprobs = call.logprobs.View();
  cuda_host::FailCall("copy", 1, 1);
  kernels().Sample(stream(), args);
  cuda_host::ClearFailures();
  const absl::Status status = stream().Synchronize();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_NE(status.message().find("Sample"), std::string::npos) << status;
}

TEST_F(SampleListsTest, MemoryThatCannotBeHadIsAnError) {
  WorkspaceLimits limits;
  limits.max_logit_rows = 4;
  limits.vocab = 100;
  for (const char* function : {"allocate", "allocate_pinned", "create_event"}) {
    const cuda_host::LiveObjects before = cuda_host::CountLiveObjects();
    cuda_host::FailCall(function, 1, kCudaErrorMemoryAllocation);
    const auto kernels = SamplingKernels::Create(memory(), limits);
    EXPECT_EQ(kernels.status().code(), absl::StatusCode::kResourceExhausted) << function;
    cuda_host::ClearFailures();
    const cuda_host::LiveObjects after = cuda_host::CountLiveObjects();
    EXPECT_EQ(after.allocations, before.allocations) << function;
    EXPECT_EQ(after.pinned_allocations, before.pinned_allocations) << function;
    EXPECT_EQ(after.events, before.events) << function;
  }
}

class SampleIdsDeathTest : public SamplingTest {};

TEST_F(SampleIdsDeathTest, AnIdOutsideTheVocabularyIsCaught) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto sample = [&](const RowWithLists& request) { TokenOnDevice({1, 2, 3}, request.Get()); };
  RowWithLists biased;
  biased.logit_bias = {{3, 1}};
  EXPECT_DEATH(sample(biased), "a biased token id is out of range");
  RowWithLists seen;
  seen.row.presence_penalty = 1;
  seen.seen = {{-1, 1, false}};
  EXPECT_DEATH(sample(seen), "a seen token id is out of range");
  RowWithLists allowed;
  allowed.allowed = {0, 3};
  EXPECT_DEATH(sample(allowed), "an allowed token id is out of range");
  RowWithLists suppressed;
  suppressed.suppressed = {3};
  EXPECT_DEATH(sample(suppressed), "a suppressed token id is out of range");
}

}  // namespace
}  // namespace moed::cuda
