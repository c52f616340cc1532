// Each float operation in plain loops, as its formula in kernels/backend.h reads. `act` tensors may
// be float32 or bfloat16; sums are float32 in ascending order of the summed index.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/core/buffer.h"

namespace moed::reference {

// A matrix [out_features, in_features] in the activation dtype, row-major.
class Matrix final : public LinearWeight {
 public:
  Matrix(Buffer buffer, DType dtype, int64_t out_features, int64_t in_features)
      : buffer_(std::move(buffer)), view_(buffer_.View(dtype, {out_features, in_features})) {}

  int64_t in_features() const override { return view_.dim(1); }
  int64_t out_features() const override { return view_.dim(0); }
  int64_t bytes() const override { return view_.bytes(); }
  const TensorView& view() const { return view_; }

 private:
  Buffer buffer_;
  TensorView view_;
};

class Expert final : public ExpertWeight {
 public:
  Expert(Matrix w1, Matrix w2, Matrix w3)
      : w1_(std::move(w1)), w2_(std::move(w2)), w3_(std::move(w3)) {}

  int64_t bytes() const override { return w1_.bytes() + w2_.bytes() + w3_.bytes(); }
  const TensorView& w1() const { return w1_.view(); }
  const TensorView& w2() const { return w2_.view(); }
  const TensorView& w3() const { return w3_.view(); }

 private:
  Matrix w1_;
  Matrix w2_;
  Matrix w3_;
};

// One candidate of a draw.
struct Candidate {
  float logit;
  int32_t id;
  double probability;  // up to a common factor
  double oddity;       // distance of its surprise from the entropy
};

// Scratch memory of one call at a time, sized by Backend::PrepareWorkspace.
struct Scratch {
  std::vector<float> scores;          // [max(max_context_tokens, num_experts)]
  std::vector<float> ffn;             // [ffn]
  std::vector<float> row;             // [head_dim]
  std::vector<float> logits;          // [vocab]
  std::vector<bool> removed;          // [vocab]
  std::vector<Candidate> candidates;  // [vocab]
};

void Embed(const EmbedArgs& args);
void RmsNorm(const RmsNormArgs& args);
void Linear(const LinearArgs& args);
void RotaryCacheWrite(const RotaryCacheWriteArgs& args);
void PagedAttention(const PagedAttentionArgs& args, Scratch& scratch);
void Route(const RouteArgs& args, Scratch& scratch);
void GatherRows(const GatherRowsArgs& args);
void ExpertFfn(const ExpertFfnArgs& args, Scratch& scratch);
void Combine(const CombineArgs& args);
void Sample(const SampleArgs& args, Scratch& scratch);
void TokenLogprobs(const TokenLogprobsArgs& args, Scratch& scratch);

}  // namespace moed::reference
