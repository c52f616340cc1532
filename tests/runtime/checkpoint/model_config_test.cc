#include "runtime/checkpoint/model_config.h"

#include <ostream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/checkpoint/config_json.h"

namespace moed {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

absl::StatusOr<ModelConfig> Parse(const ConfigFields& changes) {
  return ParseModelConfig(AwkwardConfigJson(changes), "config.json");
}

TEST(ModelConfig, ReadsEveryField) {
  const auto config = Parse({});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->architecture, "MixtralForCausalLM");
  EXPECT_EQ(config->vocab_size, 61);
  EXPECT_EQ(config->hidden, 72);
  EXPECT_EQ(config->ffn, 40);
  EXPECT_EQ(config->num_layers, 3);
  EXPECT_EQ(config->num_heads, 6);
  EXPECT_EQ(config->num_kv_heads, 3);
  EXPECT_EQ(config->head_dim, 12);
  EXPECT_EQ(config->num_experts, 6);
  EXPECT_EQ(config->top_k, 3);
  EXPECT_EQ(config->max_positions, 50);
  EXPECT_EQ(config->rope_theta, 10000.0);
  EXPECT_EQ(config->rope_position_scale, 1.0);
  EXPECT_EQ(config->sliding_window, 0);
  EXPECT_EQ(config->rms_epsilon, 1e-5);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_EQ(config->checkpoint_dtype, DType::kBFloat16);
  EXPECT_EQ(config->bos_token_id, 1);
  EXPECT_THAT(config->eos_token_ids, ElementsAre(2));
  EXPECT_THAT(config->warnings, IsEmpty());
}

TEST(ModelConfig, HonoursWhatChangesTheMaths) {
  EXPECT_EQ(Parse({{"head_dim", "16"}})->head_dim, 16);
  EXPECT_EQ(Parse({{"head_dim", "null"}})->head_dim, 12);
  EXPECT_EQ(Parse({{"num_key_value_heads", "null"}})->num_kv_heads, 6);
  EXPECT_EQ(Parse({{"sliding_window", "4096"}})->sliding_window, 4096);
  EXPECT_TRUE(Parse({{"tie_word_embeddings", "true"}})->tie_word_embeddings);
  EXPECT_EQ(Parse({{"rope_theta", "1000000"}})->rope_theta, 1e6);
  EXPECT_EQ(Parse({{"rope_scaling", "null"}})->rope_position_scale, 1);
  EXPECT_EQ(Parse({{"rope_scaling", R"({"type":"default"})"}})->rope_position_scale, 1);
  EXPECT_EQ(Parse({{"rope_scaling", R"({"type":"linear","factor":4})"}})->rope_position_scale,
            0.25);
  EXPECT_EQ(
      Parse({{"rope_scaling", R"({"rope_type":"linear","factor":2.0})"}})->rope_position_scale,
      0.5);
  const auto newer = Parse({{"rope_theta", ""},
                            {"rope_parameters", R"({"rope_type":"default","rope_theta":5e5})"},
                            {"torch_dtype", ""},
                            {"dtype", "\"float16\""}});
  ASSERT_TRUE(newer.ok()) << newer.status();
  EXPECT_EQ(newer->rope_theta, 5e5);
  EXPECT_EQ(newer->checkpoint_dtype, DType::kFloat16);
  EXPECT_THAT(Parse({{"eos_token_id", "[2, 7]"}})->eos_token_ids, ElementsAre(2, 7));
  EXPECT_THAT(Parse({{"eos_token_id", "null"}})->eos_token_ids, IsEmpty());
  EXPECT_EQ(Parse({{"bos_token_id", "null"}})->bos_token_id, std::nullopt);
}

struct Refusal {
  std::string field;
  std::string value;
  std::string expected;  // part of the error, beside file, field and value
};

void PrintTo(const Refusal& refusal, std::ostream* out) {
  *out << refusal.field << ": " << refusal.value;
}

class ModelConfigRefuses : public testing::TestWithParam<Refusal> {};

TEST_P(ModelConfigRefuses, ByFileFieldExpectedAndFound) {
  const auto config = Parse({{GetParam().field, GetParam().value}});
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(config.status().message()),
              AllOf(HasSubstr("config.json: field '" + GetParam().field),
                    HasSubstr(GetParam().expected), HasSubstr(", found ")));
}

INSTANTIATE_TEST_SUITE_P(
    Values, ModelConfigRefuses,
    testing::Values(
        Refusal{"architectures", "[\"LlamaForCausalLM\"]", "MixtralForCausalLM"},
        Refusal{"architectures", "[]", "MixtralForCausalLM"},
        Refusal{"architectures", "\"MixtralForCausalLM\"", "MixtralForCausalLM"},
        Refusal{"architectures", "", "found nothing"},
        Refusal{"model_type", "\"llama\"", "\"mixtral\""},
        Refusal{"hidden_act", "\"gelu\"", "silu"}, Refusal{"hidden_act", "7", "a string"},
        Refusal{"hidden_size", "", "found nothing"},
        Refusal{"hidden_size", "null", "found nothing"}, Refusal{"hidden_size", "0", "from 1 to"},
        Refusal{"hidden_size", "-72", "found -72"}, Refusal{"hidden_size", "72.0", "an integer"},
        Refusal{"hidden_size", "\"72\"", "an integer"},
        Refusal{"hidden_size", "true", "an integer"}, Refusal{"hidden_size", "[72]", "an integer"},
        Refusal{"hidden_size", "9223372036854775807", "from 1 to 65536"},
        Refusal{"hidden_size", "18446744073709551616", "from 1 to 65536"},
        Refusal{"hidden_size", "1e300", "an integer"},
        Refusal{"vocab_size", "4294967296", "an integer from 1 to"},
        Refusal{"intermediate_size", "9999999999", "an integer from 1 to"},
        Refusal{"num_hidden_layers", "100000", "from 1 to 1024"},
        Refusal{"num_local_experts", "70000", "from 1 to 4096"},
        Refusal{"num_experts_per_tok", "7", "from 1 to 6"},
        Refusal{"num_experts_per_tok", "0", "from 1 to 6"},
        Refusal{"max_position_embeddings", "1000000000000", "an integer"},
        Refusal{"num_attention_heads", "0", "from 1 to 1024"},
        Refusal{"num_key_value_heads", "", "an integer or null"},
        Refusal{"num_key_value_heads", "4", "a divisor of the 6"},
        Refusal{"num_key_value_heads", "12", "from 1 to 6"}, Refusal{"head_dim", "13", "even"},
        Refusal{"head_dim", "0", "from 2 to 1024"},
        Refusal{"head_dim", "1048576", "from 2 to 1024"},
        Refusal{"sliding_window", "0", "from 1 to"},
        Refusal{"sliding_window", "false", "an integer"},
        Refusal{"layer_types", "[\"sliding_attention\"]", "full_attention"},
        Refusal{"rms_norm_eps", "", "a number"}, Refusal{"rms_norm_eps", "0", "from 1e-12"},
        Refusal{"rms_norm_eps", "-1e-5", "from 1e-12"},
        Refusal{"rms_norm_eps", "\"1e-5\"", "number"}, Refusal{"rope_theta", "", "a number"},
        Refusal{"rope_theta", "0", "from 1 to"}, Refusal{"rope_theta", "1e300", "from 1 to"},
        Refusal{"rope_scaling", "4", "null or an object"},
        Refusal{"tie_word_embeddings", "1", "true or false"},
        Refusal{"torch_dtype", "\"int8\"", "bfloat16"}, Refusal{"torch_dtype", "16", "a string"},
        Refusal{"bos_token_id", "61", "from 0 to 60"},
        Refusal{"eos_token_id", "-1", "from 0 to 60"},
        Refusal{"eos_token_id", "[2, 61]", "from 0 to 60"},
        Refusal{"eos_token_id", "\"2\"", "token id"}, Refusal{"attention_bias", "true", "false"},
        Refusal{"mlp_bias", "true", "false"}, Refusal{"attention_bias", "0", "false"},
        Refusal{"quantization_config", R"({"quant_method":"awq"})", "not supported"},
        Refusal{"partial_rotary_factor", "0.5", "1 (anything else"},
        Refusal{"attn_logit_softcapping", "50.0", "null or 0"},
        Refusal{"n_shared_experts", "2", "null or 0"},
        Refusal{"norm_topk_prob", "false", "true (anything else"},
        Refusal{"scoring_func", "\"sigmoid\"", "\"softmax\""}));

TEST(ModelConfig, RefusesRotaryScalingsItDoesNotComputeByName) {
  for (const std::string type : {"dynamic", "yarn", "longrope", "llama3", "su", ""}) {
    const auto config = Parse({{"rope_scaling", "{\"type\":\"" + type + "\",\"factor\":2}"}});
    EXPECT_THAT(std::string(config.status().message()),
                AllOf(HasSubstr("config.json: field 'rope_scaling.type'"),
                      HasSubstr("found \"" + type + "\"")));
  }
  const auto message = [](const std::string& scaling) {
    return std::string(Parse({{"rope_scaling", scaling}}).status().message());
  };
  EXPECT_THAT(message(R"({"type":"linear"})"), HasSubstr("'rope_scaling.factor': expected"));
  EXPECT_THAT(message(R"({"type":"linear","factor":0.5})"), HasSubstr("'rope_scaling.factor'"));
  EXPECT_THAT(message(R"({"type":"default","factor":2})"), HasSubstr("'rope_scaling.factor'"));
  EXPECT_THAT(message(R"({"type":"linear","rope_type":"yarn","factor":2})"),
              HasSubstr("'rope_scaling.type'"));
  EXPECT_THAT(message(R"({"type":"linear","factor":2,"beta_fast":32})"),
              HasSubstr("'rope_scaling.beta_fast'"));
  EXPECT_THAT(message(R"({"rope_theta":5000,"rope_type":"default"})"),
              HasSubstr("'rope_scaling.rope_theta'"));
}

TEST(ModelConfig, RefusesSizesWhoseProductsWouldBeAbsurd) {
  const auto config = Parse({{"num_hidden_layers", "1024"}, {"num_local_experts", "4096"}});
  EXPECT_THAT(std::string(config.status().message()),
              AllOf(HasSubstr("field 'num_local_experts'"), HasSubstr("at most 64")));
}

TEST(ModelConfig, RefusesAHeadDimThatDoesNotDivide) {
  const auto config = Parse({{"hidden_size", "73"}});
  EXPECT_THAT(std::string(config.status().message()),
              AllOf(HasSubstr("field 'head_dim'"), HasSubstr("do not divide hidden_size 73")));
}

TEST(ModelConfig, AcceptsFieldsAtTheirNeutralValue) {
  const auto config = Parse({{"attention_bias", "false"},
                             {"quantization_config", "null"},
                             {"partial_rotary_factor", "1.0"},
                             {"final_logit_softcapping", "null"},
                             {"norm_topk_prob", "true"},
                             {"router_aux_loss_coef", "0.02"},
                             {"use_cache", "true"}});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->warnings, IsEmpty());
}

TEST(ModelConfig, NamesUnknownFieldsInAFewWarnings) {
  EXPECT_THAT(Parse({{"frobnicate", "3"}, {"gone", "null"}})->warnings,
              ElementsAre("config.json: field 'frobnicate' is unknown and ignored"));
  ConfigFields many;
  for (int i = 0; i < 1000; ++i) many.emplace(absl::StrCat("unknown", i), "1");
  EXPECT_EQ(Parse(many)->warnings.size(), 17U);
}

TEST(ModelConfig, WarnsOfTheAssumedDType) {
  const auto config = Parse({{"torch_dtype", ""}});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->checkpoint_dtype, DType::kFloat32);
  EXPECT_THAT(config->warnings, ElementsAre(HasSubstr("torch_dtype")));
}

TEST(ModelConfig, RefusesWhatIsNotAnObject) {
  for (const std::string text :
       {"", "[]", "3", "{\"hidden_size\":1,\"hidden_size\":2}", "{\"a\":NaN}"}) {
    EXPECT_THAT(std::string(ParseModelConfig(text, "config.json").status().message()),
                HasSubstr("config.json: expected"))
        << text;
  }
}

TEST(GenerationDefaults, ReadsSamplingAndEosIds) {
  const auto defaults = ParseGenerationDefaults(
      R"({"temperature":0.7,"top_k":50,"top_p":0.9,"min_p":0.05,"eos_token_id":[2,3]})", "g.json");
  ASSERT_TRUE(defaults.ok()) << defaults.status();
  EXPECT_FLOAT_EQ(*defaults->temperature, 0.7F);
  EXPECT_EQ(defaults->top_k, 50);
  EXPECT_FLOAT_EQ(*defaults->top_p, 0.9F);
  EXPECT_FLOAT_EQ(*defaults->min_p, 0.05F);
  EXPECT_THAT(defaults->eos_token_ids, ElementsAre(2, 3));
  EXPECT_THAT(defaults->warnings, IsEmpty());
}

TEST(GenerationDefaults, LeavesUnsetWhatIsAbsent) {
  const auto defaults = ParseGenerationDefaults(R"({"eos_token_id":2,"top_p":null})", "g.json");
  ASSERT_TRUE(defaults.ok()) << defaults.status();
  EXPECT_EQ(defaults->temperature, std::nullopt);
  EXPECT_EQ(defaults->top_k, std::nullopt);
  EXPECT_EQ(defaults->top_p, std::nullopt);
  EXPECT_THAT(defaults->eos_token_ids, ElementsAre(2));
}

TEST(GenerationDefaults, TakesDoSampleFalseAsGreedyAndNamesWhatItIgnores) {
  const auto defaults = ParseGenerationDefaults(
      R"({"do_sample":false,"temperature":0.7,"repetition_penalty":1.1})", "g.json");
  ASSERT_TRUE(defaults.ok()) << defaults.status();
  EXPECT_EQ(defaults->temperature, 0.0F);
  EXPECT_THAT(defaults->warnings, ElementsAre(HasSubstr("'repetition_penalty' is ignored")));
}

TEST(GenerationDefaults, RefusesValuesOutOfRangeByName) {
  for (const auto& [field, value] :
       std::vector<std::pair<std::string, std::string>>{{"temperature", "-1"},
                                                        {"temperature", "\"hot\""},
                                                        {"top_k", "-2"},
                                                        {"top_k", "1.5"},
                                                        {"top_p", "0"},
                                                        {"top_p", "1.01"},
                                                        {"min_p", "-0.1"},
                                                        {"min_p", "2"},
                                                        {"eos_token_id", "4294967296"},
                                                        {"eos_token_id", "{}"},
                                                        {"do_sample", "1"}}) {
    const auto defaults =
        ParseGenerationDefaults("{\"" + field + "\":" + value + "}", "generation_config.json");
    EXPECT_THAT(std::string(defaults.status().message()),
                HasSubstr("generation_config.json: field '" + field + "': expected"))
        << value;
  }
}

}  // namespace
}  // namespace moed
