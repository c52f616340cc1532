// What the tests of the CUDA sampling kernels share: a call on the device, and the same on the
// CPU's reference kernels.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/sampling.h"
#include "tests/kernels/cpu/sample_harness.h"
#include "tests/kernels/cuda/device_fixture.h"

namespace moed::cuda {

// A row nearer to another token than this may get it: the device rounds each weight to a multiple
// of 2^-50 or so of the largest (kernels/cuda/token_weights.cuh), where the reference keeps a
// double.
inline constexpr double kMargin = 1e-9;

// Of a logprob: one rounding to float32 of a double that is exact to about 1e-15. The two may round
// to neighbours.
double LogprobTolerance(float logprob);

// A call of Sample whose device memory lives with it.
struct SampleCall {
  std::vector<SamplingRow> rows;
  bool want_top = true;
  DeviceArray<float> logits;
  DeviceArray<int32_t> tokens, top_ids, last_sampled;
  DeviceArray<float> logprobs, top_logprobs;
};

class SamplingTest : public DeviceTest {
 protected:
  SamplingTest();

  // Room for calls of up to 64 rows with lists at once and a vocabulary of 40,000 until then.
  void Prepare(int64_t max_logit_rows, int64_t vocab);
  SamplingKernels& kernels() { return *kernels_; }

  // Enqueues it. Slots of last_sampled [64] are -7 before.
  SampleCall Enqueue(CudaStream& stream, const Tensor& logits, std::vector<SamplingRow> rows,
                     bool want_top = true);
  Sampled Finish(const SampleCall& call);
  Sampled SampleOnDevice(const Tensor& logits, const std::vector<SamplingRow>& rows);
  Sampled SampleOnReference(const Tensor& logits, const std::vector<SamplingRow>& rows);
  int32_t TokenOnDevice(const std::vector<float>& logits, const SamplingRow& row);

  // Tokens equal, logprobs within tolerance, tops in the same order.
  void ExpectAsReference(const Tensor& logits, const std::vector<SamplingRow>& rows,
                         const std::string& what);
  static void ExpectSame(const Sampled& got, const Sampled& want, const std::string& what);

  Backend& reference() { return *reference_; }
  Stream& reference_stream() { return *reference_stream_; }

 private:
  std::unique_ptr<SamplingKernels> kernels_;
  std::unique_ptr<Backend> reference_;
  std::unique_ptr<Stream> reference_stream_;
};

// Logits and a row with every parameter and list at random; many ties, some NaN and infinities.
std::vector<float> RandomLogits(std::mt19937& engine, int32_t vocab);
RowWithLists RandomRequest(std::mt19937& engine, int32_t vocab);

}  // namespace moed::cuda
