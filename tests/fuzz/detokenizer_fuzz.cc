// Fuzzes incremental detokenising: any ids, cut anywhere into prompt and continuation, give deltas
// of whole code points that join to what Decode says.
//
// Input: one byte of flags (bit 0: skip special tokens; bit 1: extra whitespace removed), one byte
// with the number of prompt ids, then ids of two little-endian bytes each.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "kernels/core/check.h"
#include "runtime/tokenizer/incremental_detokenizer.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/utf8.h"
#include "tests/runtime/tokenizer/model_file.h"

namespace {

std::unique_ptr<moed::Tokenizer> MakeTokenizer(bool remove_extra_whitespaces) {
  moed::ModelFile file = moed::SmallModelFile();
  file.normalizer = moed::WireInteger(4, remove_extra_whitespaces ? 1 : 0);
  auto tokenizer = moed::Tokenizer::FromBytes(file.Bytes(), "fuzz.model");
  MOED_CHECK(tokenizer.ok(), "a well-formed model");
  return std::move(*tokenizer);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::unique_ptr<moed::Tokenizer> kTokenizers[] = {MakeTokenizer(false),
                                                                 MakeTokenizer(true)};
  if (size < 2) return 0;
  const moed::DetokenizeOptions options = {.skip_special_tokens = (data[0] & 1) != 0};
  const moed::Tokenizer& tokenizer = *kTokenizers[data[0] >> 1 & 1];
  std::vector<int32_t> ids;
  for (size_t i = 2; i + 1 < size; i += 2) {
    ids.push_back((data[i] | data[i + 1] << 8) % tokenizer.vocab_size());
  }
  const size_t num_prompt_ids = std::min<size_t>(data[1], ids.size());

  moed::IncrementalDetokenizer whole(tokenizer, options);
  moed::IncrementalDetokenizer continued(tokenizer, options,
                                         absl::MakeConstSpan(ids).first(num_prompt_ids));
  std::string whole_text;
  std::string continued_text;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string delta = whole.Feed(ids[i]);
    MOED_CHECK(moed::IsValidUtf8(delta), "a delta is whole code points");
    whole_text += delta;
    if (i >= num_prompt_ids) continued.Feed(ids[i], &continued_text);
  }
  whole_text += whole.Flush();
  continued_text += continued.Flush();
  const auto decoded = tokenizer.Decode(ids, options.skip_special_tokens);
  MOED_CHECK(decoded.ok() && *decoded == whole_text, "the deltas join to Decode");
  MOED_CHECK(continued_text.size() <= whole_text.size() &&
                 whole_text.substr(whole_text.size() - continued_text.size()) == continued_text,
             "a continuation is the end of the whole");
  return 0;
}
