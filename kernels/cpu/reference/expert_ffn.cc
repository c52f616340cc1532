#include <cmath>
#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/reference/act_type.h"
#include "kernels/cpu/reference/reference_ops.h"

namespace moed::reference {
namespace {

template <typename T>
float Dot(const T* a, const T* b, int64_t size) {
  float sum = 0;
  for (int64_t i = 0; i < size; ++i) sum += ToFloat(a[i]) * ToFloat(b[i]);
  return sum;
}

// One row through one expert. The inner activation is rounded to the activation dtype.
template <typename T>
void ComputeRow(const Expert& expert, const T* x, T* inner, T* out) {
  const int64_t ffn = expert.w1().dim(0);
  const int64_t hidden = expert.w1().dim(1);
  for (int64_t f = 0; f < ffn; ++f) {
    const float gate = Dot(x, expert.w1().data<T>() + f * hidden, hidden);
    const float up = Dot(x, expert.w3().data<T>() + f * hidden, hidden);
    inner[f] = FromFloat<T>(gate / (1.0F + std::exp(-gate)) * up);
  }
  for (int64_t i = 0; i < hidden; ++i) {
    out[i] = FromFloat<T>(Dot<T>(inner, expert.w2().data<T>() + i * ffn, ffn));
  }
}

}  // namespace

void ExpertFfn(const ExpertFfnArgs& args, Scratch& scratch) {
  const int64_t num_experts = static_cast<int64_t>(args.experts.size());
  const int32_t* offsets = args.expert_offsets.data<int32_t>();
  if (offsets[num_experts] == 0) return;
  WithActType(args.x.dtype(), [&]<typename T>(T) {
    const int64_t hidden = args.x.dim(1);
    for (int64_t e = 0; e < num_experts; ++e) {
      const auto* expert = dynamic_cast<const Expert*>(args.experts[static_cast<size_t>(e)]);
      MOED_CHECK(expert != nullptr && expert->w1().dim(1) == hidden,
                 "ExpertFfn: an expert has another hidden size, or is another backend's");
      MOED_CHECK(expert->w1().dim(0) <= static_cast<int64_t>(scratch.ffn.size()),
                 "ExpertFfn: ffn exceeds the workspace's limits");
      T* inner = reinterpret_cast<T*>(scratch.ffn.data());
      for (int64_t i = offsets[e]; i < offsets[e + 1]; ++i) {
        const int64_t row = args.row_index.data<int32_t>()[i];
        const int64_t target = args.out_index.data<int32_t>()[i];
        MOED_CHECK(row >= 0 && row < args.x.dim(0) && target >= 0 && target < args.out.dim(0),
                   "ExpertFfn: a row or result index is out of range");
        ComputeRow(*expert, args.x.data<T>() + row * hidden, inner,
                   args.out.data<T>() + target * hidden);
      }
    }
  });
}

}  // namespace moed::reference
