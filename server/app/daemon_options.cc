#include "server/app/daemon_options.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <arpa/inet.h>

#include <algorithm>
#include <cctype>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "kernels/backend.h"
#include "runtime/tokenizer/tokenizer.h"
#include "server/app/exit_code.h"

namespace moed {
namespace {

// A text is part of a message, and no text may be longer than the tokenizer takes.
constexpr int64_t kMaxMessageBytes = Tokenizer::kMaxTextBytes;

constexpr char kFooter[] =
    "Every option is also an environment variable: --kv-blocks is MOED_KV_BLOCKS. A flag wins.\n"
    "\n"
    "Examples:\n"
    "  moed --model models/demo --ranks 8\n"
    "  moed --model /data/mixtral --ranks 8 --dry-run\n"
    "  moed --model config.json --load-format dummy --listen 0.0.0.0:9000\n"
    "\n"
    "Exit codes: 0 stopped by a signal, 64 usage, 69 too little memory or a port that is taken,\n"
    "70 internal, 75 a rank failed (restart me), 78 bad checkpoint or configuration.\n"
    "SIGTERM and SIGINT drain; a second one stops at once. SIGHUP is ignored.";

// What CLI11 hands over as text with a unit ("4GiB") arrives in bytes.
CLI::Validator Bytes() {
  CLI::Validator bytes = CLI::AsSizeValue(/*kb_is_1000=*/false);
  bytes.description("");
  return bytes;
}

CLI::Validator AtLeastOne() {
  const auto check = [](const std::string& text) -> std::string {
    int64_t value = 0;
    if (absl::SimpleAtoi(text, &value) && value >= 1) return "";
    return "must be a whole number of at least 1, got " + text;
  };
  return CLI::Validator(check, "", "at least 1");
}

CLI::Validator AtMost(int64_t limit) {
  const auto check = [limit](const std::string& text) -> std::string {
    int64_t value = 0;
    if (absl::SimpleAtoi(text, &value) && value <= limit) return "";
    return absl::StrCat("must be at most ", limit, ", got ", text);
  };
  return CLI::Validator(check, "", "at most");
}

// Not CLI11's Range, which lets "nan" through.
CLI::Validator Between(double low, double high) {
  const auto check = [low, high](const std::string& text) -> std::string {
    double value = 0;
    if (absl::SimpleAtod(text, &value) && value >= low && value <= high) return "";
    return absl::StrCat("must be in [", low, ", ", high, "], got ", text);
  };
  return CLI::Validator(check, "", "between");
}

std::string CheckListen(const std::string& address) {
  const size_t colon = address.rfind(':');
  int port = -1;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(absl::string_view(address).substr(colon + 1), &port) || port < 0 ||
      port > 65535) {
    return "must be HOST:PORT with a port in [0, 65535], got " + address;
  }
  return "";
}

void AddModelOptions(CLI::App& app, DaemonOptions& o) {
  const std::string group = "Model";
  app.add_option("--model", o.model,
                 "Hugging Face directory of the model; for dummy weights also "
                 "a config.json; null: tokens that nobody computes, to measure the rest")
      ->group(group)
      ->required()
      ->type_name("DIR");
  app.add_option("--model-name", o.model_name,
                 "Name that requests use; default: the directory's name")
      ->group(group)
      ->type_name("NAME");
  app.add_option("--load-format", o.load_format,
                 "auto and safetensors read the checkpoint; dummy makes seeded weights")
      ->group(group)
      ->check(CLI::IsMember({"auto", "safetensors", "dummy"}))
      ->type_name("FORMAT");
  app.add_option("--dummy-seed", o.dummy_seed, "Seed of the dummy weights")
      ->group(group)
      ->type_name("N");
  app.add_option(
         "--dtype", o.dtype,
         "Activations, matrices and KV cache: float32, bfloat16, or auto: as the checkpoint")
      ->group(group)
      ->check(CLI::IsMember({"auto", "float32", "bfloat16"}))
      ->type_name("TYPE");
  app.add_option("--null-step-time", o.null_step_seconds,
                 "How long a step of --model null takes; 0: no time")
      ->group(group)
      ->check(Between(0, 60))
      ->type_name("SECONDS");
}

void AddRankOptions(CLI::App& app, DaemonOptions& o) {
  const std::string group = "Ranks";
  app.add_option("--ranks", o.ranks, "Ranks that share the experts; 8 is the layout of 8 GPUs")
      ->group(group)
      ->check(CLI::Range(1, 1024))
      ->type_name("N");
  app.add_option("--threads", o.threads,
                 "Threads that compute, of all ranks together; 0: as many "
                 "as there are processors, within the control group's quota")
      ->group(group)
      ->check(CLI::Range(0, 4096))
      ->type_name("N");
  app.add_option("--cpu-isa", o.cpu_isa,
                 "Kernels: avx512bf16, portable, reference, or auto: the "
                 "fastest that this processor has")
      ->group(group)
      ->check(CLI::IsMember({"auto", "avx512bf16", "portable", "reference"}))
      ->type_name("ISA");
  app.add_option("--exchange", o.exchange,
                 "How rows reach their experts: exact, gather, or auto: by the step's size")
      ->group(group)
      ->check(CLI::IsMember({"auto", "exact", "gather"}))
      ->type_name("HOW");
  app.add_option("--rank-timeout", o.rank_timeout_seconds,
                 "How long a rank may take between two exchanges before the daemon gives up")
      ->group(group)
      ->check(Between(0.001, 86400))
      ->type_name("SECONDS");
}

void AddBatchOptions(CLI::App& app, DaemonOptions& o) {
  const std::string group = "Memory and batches, of each rank";
  app.add_option("--kv-cache-size", o.kv_cache_bytes,
                 "Memory for keys and values, like 4GiB; default: --max-sequences full contexts, "
                 "at most 1GiB")
      ->group(group)
      ->transform(Bytes())
      ->default_str("")
      ->type_name("SIZE");
  app.add_option("--kv-blocks", o.kv_blocks, "The same as a number of blocks; wins")
      ->group(group)
      ->check(AtLeastOne())
      ->default_str("")
      ->type_name("N");
  app.add_option("--block-size", o.block_size, "Tokens of a KV block")
      ->group(group)
      ->check(CLI::Range(1, 1024))
      ->type_name("N");
  app.add_option("--max-sequences", o.max_sequences, "Requests that run at a time")
      ->group(group)
      ->check(CLI::Range(1, 65536))
      ->type_name("N");
  app.add_option("--max-batched-tokens", o.max_batched_tokens, "Tokens of a step")
      ->group(group)
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N");
  app.add_option("--rank-memory", o.rank_memory_bytes,
                 "With --dry-run: memory of a rank, to say how many KV blocks fit")
      ->group(group)
      ->transform(Bytes())
      ->default_str("")
      ->type_name("SIZE");
}

void AddSchedulingOptions(CLI::App& app, DaemonOptions& o) {
  const std::string group = "Scheduling";
  app.add_flag("--no-prefix-cache", o.no_prefix_cache,
               "Compute every prompt from its start, also where another began the same")
      ->group(group);
  app.add_option("--priority-ageing", o.priority_ageing_seconds,
                 "Waiting time that is worth a level of priority; 0: priorities do nothing")
      ->group(group)
      ->check(Between(0, 86400))
      ->type_name("SECONDS");
}

void AddExpertOptions(CLI::App& app, DaemonOptions& o) {
  const std::string group = "Experts";
  app.add_option("--capacity-factor", o.capacity_factor,
                 "An expert takes at most so many times its even share of a rank's rows in a step, "
                 "the rest goes without it; answers then depend on what else is computed. 0: no "
                 "limit")
      ->group(group)
      ->check(Between(0, 1e6))
      ->type_name("FACTOR");
  app.add_option("--max-experts-per-token", o.limits.experts_per_token,
                 "Experts that a request may send each token to; more than the model's cost "
                 "memory. Default: the model's")
      ->group(group)
      ->check(AtLeastOne())
      ->default_str("")
      ->type_name("N");
  app.add_flag("--allow-routed-experts", o.limits.routed_experts,
               "Let requests ask which experts their tokens went to: tells about content")
      ->group(group);
  app.add_flag("--expert-token-statistics", o.expert_token_statistics,
               "Count which tokens each expert receives, for moedctl experts --tokens: tells about "
               "content, and costs memory")
      ->group(group);
}

void AddRequestOptions(CLI::App& app, DaemonOptions& o) {
  const std::string group = "What a request may ask for";
  const auto limit = [&](const char* flag, int32_t& value, const char* text) {
    app.add_option(flag, value, text)->group(group)->check(AtLeastOne())->type_name("N");
  };
  limit("--queue-limit", o.limits.queued_requests, "Requests that wait; more are refused");
  limit("--default-max-tokens", o.limits.default_max_tokens,
        "Length of a continuation that does not say max_tokens");
  limit("--max-n", o.limits.n, "Continuations of a prompt; no more than --max-sequences");
  limit("--max-logit-bias", o.limits.logit_bias, "Entries of logit_bias");
  limit("--max-bad-words", o.limits.bad_words, "Texts of bad_words");
  limit("--max-bad-word-bytes", o.limits.bad_word_bytes, "Bytes of a text of bad_words");
  limit("--max-stop-strings", o.limits.stop_strings, "Stop strings");
  limit("--max-stop-string-bytes", o.limits.stop_string_bytes, "Bytes of a stop string");
  limit("--max-stop-token-ids", o.limits.stop_token_ids, "Stop token ids");
  limit("--max-chat-messages", o.limits.chat_messages, "Messages of a conversation");
  app.add_option("--max-logprobs", o.limits.logprobs, "Alternatives with a log probability")
      ->group(group)
      ->check(CLI::Range(0, kMaxLogprobs))
      ->type_name("N");
  app.add_option("--max-message-size", o.limits.message_bytes, "Bytes of a request")
      ->group(group)
      ->transform(Bytes())
      ->check(AtMost(kMaxMessageBytes))
      ->check(AtLeastOne())
      ->default_str("4MiB")
      ->type_name("SIZE");
}

void AddNetworkOptions(CLI::App& app, DaemonOptions& o) {
  const std::string group = "Network";
  app.add_option("--listen", o.listen,
                 "gRPC address, may be given again; port 0 takes any free one")
      ->group(group)
      ->allow_extra_args(false)
      ->default_str(kDefaultListen)
      ->check(CLI::Validator(CheckListen, "", "listen address"))
      ->type_name("HOST:PORT");
  app.add_option("--port-file", o.port_file, "Where the chosen ports are written, one a line")
      ->group(group)
      ->type_name("FILE");
  app.add_flag("--grpc-reflection", o.grpc_reflection,
               "Offer reflection even where others than this machine can connect")
      ->group(group);
  app.add_option("--stream-buffer-size", o.stream_buffer_bytes,
                 "Output that a slow reader may leave waiting before it is cut off")
      ->group(group)
      ->transform(Bytes())
      ->check(AtLeastOne())
      ->default_str("1MiB")
      ->type_name("SIZE");
  app.add_option("--drain-timeout", o.drain_timeout_seconds,
                 "How long running requests may go on after SIGTERM")
      ->group(group)
      ->check(Between(0, 86400))
      ->type_name("SECONDS");
}

void AddLogOptions(CLI::App& app, DaemonOptions& o) {
  const std::string group = "Logs, on stderr";
  app.add_option("--log-format", o.log_format,
                 "text, json, or auto: text on a terminal and json otherwise")
      ->group(group)
      ->check(CLI::IsMember({"auto", "text", "json"}))
      ->type_name("FORMAT");
  app.add_option("--log-level", o.log_level, "debug, info, warning or error")
      ->group(group)
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->type_name("LEVEL");
}

// One declaration gives flag and variable.
void AddEnvironmentNames(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    const std::string& name = option->get_single_name();
    if (name == "help" || name == "version") continue;
    option->envname(
        absl::StrCat("MOED_", absl::AsciiStrToUpper(absl::StrReplaceAll(name, {{"-", "_"}}))));
  }
}

}  // namespace

ParsedCommandLine ParseCommandLine(int argc, const char* const* argv) {
  ParsedCommandLine parsed;
  DaemonOptions& options = parsed.options;
  CLI::App app("moed serves a Mixture-of-Experts language model over gRPC.", "moed");
  app.option_defaults()->always_capture_default();
  app.set_help_flag("--help,-h", "Print this text");
  app.set_version_flag("--version", "moed " MOED_VERSION, "Print the version");
  app.add_flag("--dry-run", options.dry_run,
               "Say what loading the model would take, read no weights, and stop");
  AddModelOptions(app, options);
  AddRankOptions(app, options);
  AddBatchOptions(app, options);
  AddSchedulingOptions(app, options);
  AddExpertOptions(app, options);
  AddRequestOptions(app, options);
  AddNetworkOptions(app, options);
  AddLogOptions(app, options);
  AddEnvironmentNames(app);
  app.footer(kFooter);
  app.get_formatter()->column_width(32);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    parsed.text = app.help();
    return parsed;
  } catch (const CLI::CallForVersion&) {
    parsed.text = app.version() + "\n";
    return parsed;
  } catch (const CLI::Error& error) {
    parsed.text = absl::StrCat("moed: ", error.what(), "\nmoed --help lists all options\n");
    parsed.exit_code = kExitUsage;
    return parsed;
  }
  // A prompt's continuations run side by side on one rank.
  options.limits.n = std::min(options.limits.n, options.max_sequences);
  if (options.listen.empty()) options.listen.push_back(kDefaultListen);
  parsed.run = true;
  return parsed;
}

bool AllLoopback(const std::vector<std::string>& listen) {
  return std::all_of(listen.begin(), listen.end(), [](const std::string& address) {
    const std::string host = address.substr(0, address.rfind(':'));
    if (host == "localhost" || host == "[::1]" || host == "::1") return true;
    // Not a name that only begins like one: it may stand for any address.
    in_addr ipv4;
    return inet_pton(AF_INET, host.c_str(), &ipv4) == 1 && ntohl(ipv4.s_addr) >> 24 == 127;
  });
}

}  // namespace moed
