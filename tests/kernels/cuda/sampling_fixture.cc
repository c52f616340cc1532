#include "tests/kernels/cuda/sampling_fixture.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/core/check.h"

namespace moed::cuda {

double LogprobTolerance(float logprob) {
  return std::isfinite(logprob) ? std::abs(logprob) * 0x1p-23 + 1e-14 : 0.0;
}

SamplingTest::SamplingTest()
    : reference_(MakeTestBackend({Kernels::kReference, DType::kFloat32})),
      reference_stream_(reference_->CreateStream()) {
  Prepare(64, 40000);
}

void SamplingTest::Prepare(int64_t max_logit_rows, int64_t vocab) {
  WorkspaceLimits limits;
  limits.max_logit_rows = max_logit_rows;
  limits.vocab = vocab;
  auto kernels = SamplingKernels::Create(memory(), limits);
  MOED_CHECK(kernels.ok(), "no memory for the sampling kernels");
  kernels_ = *std::move(kernels);
}

SampleCall SamplingTest::Enqueue(CudaStream& stream, const Tensor& logits,
                                 std::vector<SamplingRow> rows, bool want_top) {
  const auto count = static_cast<int64_t>(rows.size());
  SampleCall call;
  call.rows = std::move(rows);
  call.want_top = want_top;
  call.logits = Upload(logits.floats());
  call.tokens = Make<int32_t>(count);
  call.logprobs = Make<float>(count);
  call.top_ids = Make<int32_t>(count * kMaxLogprobs);
  call.top_logprobs = Make<float>(count * kMaxLogprobs);
  call.last_sampled = Upload(std::vector<int32_t>(64, -7));
  SampleArgs args;
  args.logits = call.logits.View({count, logits.dim(1)});
  args.rows = call.rows;
  args.last_sampled = call.last_sampled.View();
  args.token_ids = call.tokens.View();
  args.logprobs = call.logprobs.View();
  if (want_top) {
    args.top_ids = call.top_ids.View({count, kMaxLogprobs});
    args.top_logprobs = call.top_logprobs.View({count, kMaxLogprobs});
  }
  args.want_top = want_top;
  kernels_->Sample(stream, args);
  return call;
}

Sampled SamplingTest::Finish(const SampleCall& call) {
  const int64_t count = call.tokens.size();
  return {Tensor::Ints({count}, Download(call.tokens)),
          Tensor::Of(DType::kFloat32, {count}, Download(call.logprobs)),
          Tensor::Ints({count, kMaxLogprobs}, Download(call.top_ids)),
          Tensor::Of(DType::kFloat32, {count, kMaxLogprobs}, Download(call.top_logprobs)),
          Tensor::Ints({64}, Download(call.last_sampled))};
}

Sampled SamplingTest::SampleOnDevice(const Tensor& logits, const std::vector<SamplingRow>& rows) {
  return Finish(Enqueue(stream(), logits, rows));
}

Sampled SamplingTest::SampleOnReference(const Tensor& logits,
                                        const std::vector<SamplingRow>& rows) {
  return SampleRows(*reference_, *reference_stream_, logits, rows);
}

int32_t SamplingTest::TokenOnDevice(const std::vector<float>& logits, const SamplingRow& row) {
  const Tensor tensor =
      Tensor::Of(DType::kFloat32, {1, static_cast<int64_t>(logits.size())}, logits);
  return SampleOnDevice(tensor, {row}).tokens.int_at(0);
}

void SamplingTest::ExpectSame(const Sampled& got, const Sampled& want, const std::string& what) {
  EXPECT_EQ(got.tokens.ints(), want.tokens.ints()) << what;
  EXPECT_EQ(got.last_sampled.ints(), want.last_sampled.ints()) << what;
  EXPECT_EQ(got.top_ids.ints(), want.top_ids.ints()) << what;
  const auto expect_close = [&](const Tensor& a, const Tensor& b, const char* name) {
    std::vector<double> wanted;
    std::vector<double> allowed;
    for (const float logprob : b.floats()) {
      wanted.push_back(logprob);
      allowed.push_back(LogprobTolerance(logprob));
    }
    ExpectClose(a.floats(), wanted, allowed, std::string(name) + ", " + what);
  };
  expect_close(got.logprobs, want.logprobs, "logprobs");
  expect_close(got.top_logprobs, want.top_logprobs, "top_logprobs");
}

void SamplingTest::ExpectAsReference(const Tensor& logits, const std::vector<SamplingRow>& rows,
                                     const std::string& what) {
  ExpectSame(SampleOnDevice(logits, rows), SampleOnReference(logits, rows), what);
}

std::vector<float> RandomLogits(std::mt19937& engine, int32_t vocab) {
  const float steps[] = {0.0F, 0.0625F, 0.5F};
  const float step = steps[engine() % 3];
  const float scales[] = {0.2F, 2.0F, 5.0F};
  std::normal_distribution<float> normal(0, scales[engine() % 3]);
  const float specials[] = {-INFINITY, NAN, -1e30F};
  std::vector<float> logits;
  for (int32_t id = 0; id < vocab; ++id) {
    const float logit = normal(engine);
    logits.push_back(step == 0 ? logit : std::round(logit / step) * step);
    if (engine() % 40 == 0) logits.back() = specials[engine() % 3];
  }
  return logits;
}

RowWithLists RandomRequest(std::mt19937& engine, int32_t vocab) {
  const auto one_of = [&](const std::vector<float>& values) {
    return values[engine() % values.size()];
  };
  RowWithLists request;
  request.row = Row(one_of({0.0F, 0.5F, 1.0F, 2.0F}), 0, one_of({1.0F, 1.0F, 0.3F, 0.93F}),
                    one_of({0.0F, 0.0F, 0.05F, 0.4F}));
  request.row.top_k = std::vector<int32_t>{0, 0, 0, 1, 20, 500}[engine() % 6];
  request.row.typical_p = one_of({1.0F, 0.1F, 0.45F, 0.9F, 0.99F});
  request.row.seed = (uint64_t{engine()} << 32) | engine();
  request.row.position = static_cast<int64_t>(engine() % 100000);
  request.row.choice_index = engine() % 4;
  request.row.repetition_penalty = one_of({1.0F, 0.5F, 1.3F, 2.0F});
  request.row.frequency_penalty = one_of({0.0F, 0.0F, 0.5F, -0.25F});
  request.row.presence_penalty = one_of({0.0F, 0.0F, 1.5F, -1.0F});
  const bool is_plain = engine() % 3 == 0;
  const bool is_restricted = engine() % 3 == 0;
  const bool is_suppressed = engine() % 4 == 0;
  for (int32_t id = 0; id < vocab && !is_plain; ++id) {
    if (engine() % 4 == 0) {
      request.seen.push_back({id, static_cast<int32_t>(engine() % 4), engine() % 2 == 0});
    }
    if (engine() % 20 == 0) request.logit_bias.push_back({id, one_of({-100, -1.5F, 1, 2.25F})});
    if (is_restricted && engine() % 3 == 0) request.allowed.push_back(id);
    if (!is_suppressed || engine() % 3 != 0) continue;
    request.suppressed.insert(request.suppressed.end(), 1 + engine() % 2, id);
  }
  std::shuffle(request.suppressed.begin(), request.suppressed.end(), engine);
  std::shuffle(request.seen.begin(), request.seen.end(), engine);
  std::shuffle(request.allowed.begin(), request.allowed.end(), engine);
  return request;
}

}  // namespace moed::cuda
