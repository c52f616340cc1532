#include <cstdint>

#include "kernels/core/check.h"
#include "kernels/cpu/reference/act_type.h"
#include "kernels/cpu/reference/reference_ops.h"

namespace moed::reference {

void Embed(const EmbedArgs& args) {
  if (args.out.empty()) return;
  WithActType(args.table.dtype(), [&]<typename T>(T) {
    const int32_t* tokens = args.input_tokens.data<int32_t>();
    const int32_t* last_sampled = args.last_sampled.data<int32_t>();
    const T* table = args.table.data<T>();
    float* out = args.out.data<float>();
    const int64_t hidden = args.out.dim(1);
    for (int64_t t = 0; t < args.out.dim(0); ++t) {
      int64_t token = tokens[t];
      if (token < 0) {
        const int64_t slot = -1 - token;
        MOED_CHECK(slot < args.last_sampled.dim(0), "Embed: a slot is out of range");
        token = last_sampled[slot];
      }
      MOED_CHECK(token >= 0 && token < args.table.dim(0), "Embed: a token id is out of range");
      for (int64_t i = 0; i < hidden; ++i) out[t * hidden + i] = ToFloat(table[token * hidden + i]);
    }
  });
}

}  // namespace moed::reference
