#include "server/app/null_model.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/app/null_tokenizer.h"

namespace moed {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

DaemonOptions NullOptions() {
  DaemonOptions options;
  options.model = kNullModel;
  return options;
}

struct Lines {
  std::vector<std::string> info;
  std::vector<std::string> warnings;
  ModelStartHooks hooks() {
    ModelStartHooks hooks;
    hooks.on_progress = [](const RankProgress&) { return true; };
    hooks.on_info = [this](absl::string_view line) { info.emplace_back(line); };
    hooks.on_warning = [this](absl::string_view line) { warnings.emplace_back(line); };
    return hooks;
  }
};

TEST(NullModelTest, DescribesItself) {
  Lines lines;
  DaemonOptions options = NullOptions();
  options.ranks = 2;
  const auto serving = StartNullModel(options, lines.hooks());
  ASSERT_TRUE(serving.ok()) << serving.status();
  const ServedModel& model = *serving->model;
  EXPECT_EQ(model.name, "null");
  EXPECT_EQ(model.config.num_layers, 32);
  EXPECT_EQ(model.config.num_experts, 8);
  EXPECT_EQ(model.config.vocab_size, model.tokenizer->vocab_size());
  EXPECT_EQ(model.context_tokens, 32768);
  EXPECT_EQ(model.ranks.size(), 2U);
  ASSERT_TRUE(model.placement.has_value());
  EXPECT_EQ(model.placement->num_ranks(), 2);
  EXPECT_TRUE(model.chat_format.has_value());
  EXPECT_THAT(model.eos_token_ids(), ElementsAre(2));
  EXPECT_EQ(serving->engine->Stats().total_kv_blocks.size(), 2U);
  EXPECT_THAT(lines.warnings, Contains(HasSubstr("nothing is computed")));
}

TEST(NullModelTest, RefusesWhatMeansNothingWithoutAModel) {
  const auto refusal = [](auto set) {
    DaemonOptions options = NullOptions();
    set(options);
    Lines lines;
    const absl::Status status = StartNullModel(options, lines.hooks()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(refusal([](DaemonOptions& o) { o.load_format = "dummy"; }),
              HasSubstr("--load-format means nothing with --model null"));
  EXPECT_THAT(refusal([](DaemonOptions& o) { o.dummy_seed = 1; }), HasSubstr("--dummy-seed"));
  EXPECT_THAT(refusal([](DaemonOptions& o) { o.dtype = "float32"; }), HasSubstr("--dtype"));
  EXPECT_THAT(refusal([](DaemonOptions& o) { o.threads = 2; }), HasSubstr("--threads"));
  EXPECT_THAT(refusal([](DaemonOptions& o) { o.cpu_isa = "portable"; }), HasSubstr("--cpu-isa"));
  EXPECT_THAT(refusal([](DaemonOptions& o) { o.device = "cuda"; }), HasSubstr("--device"));
  EXPECT_THAT(refusal([](DaemonOptions& o) { o.deterministic = true; }),
              HasSubstr("--deterministic"));
  EXPECT_THAT(refusal([](DaemonOptions& o) { o.emulate_rank = "0/8"; }),
              HasSubstr("--emulate-rank"));
  EXPECT_THAT(refusal([](DaemonOptions& o) { o.exchange = "gather"; }), HasSubstr("--exchange"));
  EXPECT_THAT(refusal([](DaemonOptions& o) { o.kv_cache_bytes = 1; }),
              HasSubstr("--kv-cache-size"));
  EXPECT_THAT(refusal([](DaemonOptions& o) { o.capacity_factor = 2; }),
              HasSubstr("--capacity-factor"));
  EXPECT_THAT(refusal([](DaemonOptions& o) { o.expert_token_statistics = true; }),
              HasSubstr("--expert-token-statistics"));
  EXPECT_THAT(refusal([](DaemonOptions& o) { o.limits.experts_per_token = 9; }),
              HasSubstr("--max-experts-per-token"));
}

TEST(NullModelTest, AStepTimeIsForTheNullModelOnly) {
  DaemonOptions options;
  options.model = "models/demo";
  options.null_step_seconds = 0.01;
  Lines lines;
  const absl::Status status = StartModel(options, lines.hooks()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("--null-step-time"));
}

TEST(NullModelTest, EveryWordIsAWordOfTheTokenizer) {
  const auto words = MakeNullTokenizer();
  ASSERT_TRUE(words.ok()) << words.status();
  const Tokenizer& tokenizer = *words->tokenizer;
  const int32_t first = words->first_word_id;
  EXPECT_EQ(tokenizer.vocab_size() - first, 65 * 65);
  EXPECT_EQ(tokenizer.IdToPiece(first), "\u2581baba");
  for (int32_t id = first; id < tokenizer.vocab_size(); ++id) {
    const auto text = tokenizer.Decode({id});
    ASSERT_TRUE(text.ok()) << text.status();
    ASSERT_THAT(tokenizer.Encode(*text), ElementsAre(id)) << *text;
  }
}

TEST(NullModelTest, TheTokenizerSaysAnyText) {
  const auto words = MakeNullTokenizer();
  ASSERT_TRUE(words.ok()) << words.status();
  for (const std::string text :
       {"Hello, world 42!", "\xE6\x97\xA5\xE6\x9C\xAC", " two  spaces\n"}) {
    const auto decoded = words->tokenizer->Decode(words->tokenizer->Encode(text));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, text);
  }
}

}  // namespace
}  // namespace moed
