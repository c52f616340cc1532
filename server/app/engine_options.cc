#include "server/app/option_groups.h"

namespace moed {
namespace {

void AddModelOptions(OptionTable& table, DaemonOptions& o) {
  table.BeginGroup("Model");
  table.Text("model", &o.model, "DIR",
             "Hugging Face directory of the model; for dummy weights also a config.json; null: "
             "tokens that nobody computes, to measure the rest");
  table.Text("model-name", &o.model_name, "NAME",
             "Name that requests use; default: the directory's name");
  table.Choice("load-format", &o.load_format, "FORMAT", {"auto", "safetensors", "dummy"},
               "auto and safetensors read the checkpoint; dummy makes seeded weights");
  table.Integer("dummy-seed", &o.dummy_seed, 0, kNoUpperBound, "Seed of the dummy weights");
  table.Boolean("verify-checkpoint", &o.verify_checkpoint,
                "Compare the shards with SHA256SUMS where that lies beside them, and refuse "
                "weights that are infinite or no numbers");
  table.Choice("dtype", &o.dtype, "TYPE", {"auto", "float32", "bfloat16"},
               "Activations, matrices and KV cache: float32, bfloat16, or auto: as the checkpoint");
  table.Seconds("null-step-time", &o.null_step_seconds, 0, 60,
                "How long a step of --model null takes; 0: no time");
}

void AddDeviceOptions(OptionTable& table, DaemonOptions& o) {
  table.BeginGroup("Device");
  table.Choice("device", &o.device, "DEVICE", {"auto", "cpu", "cuda"},
               "Where ranks compute: cpu, cuda, or auto: a GPU where there is one, else the CPU");
  table.Text("gpu-plugin", &o.gpu_plugin, "FILE",
             "Library with all that needs CUDA; default: libmoed_cuda.so beside this program or "
             "in ../lib/moed");
  table.Integer("gpu-device", &o.gpu_device, 0, 1023, "Which GPU, as CUDA counts them");
  table.Boolean("deterministic", &o.deterministic,
                "On a GPU: the same answer whatever else is computed with it, at a cost; the CPU "
                "always keeps this");
}

void AddRankOptions(OptionTable& table, DaemonOptions& o) {
  table.BeginGroup("Ranks");
  table.Integer("ranks", &o.ranks, 1, 1024,
                "Ranks that share the experts; 8 is the layout of 8 GPUs");
  table.Text("emulate-rank", &o.emulate_rank, "R/N",
             "Run rank R of N alone, as if the others were there and alike, to measure its steps; "
             "answers mean nothing then");
  table.Integer("threads", &o.threads, 0, 4096,
                "Threads that compute, of all ranks together; 0: as many as there are processors, "
                "within the control group's quota");
  table.Choice("cpu-isa", &o.cpu_isa, "ISA", {"auto", "avx512bf16", "portable", "reference"},
               "Kernels: avx512bf16, portable, reference, or auto: the fastest that this "
               "processor has");
  table.Choice("exchange", &o.exchange, "HOW", {"auto", "exact", "gather"},
               "How rows reach their experts: exact, gather, or auto: by the step's size");
  table.Seconds("rank-timeout", &o.rank_timeout_seconds, 0.001, 86400,
                "How long a rank may take between two exchanges before the daemon gives up");
}

void AddBatchOptions(OptionTable& table, DaemonOptions& o) {
  table.BeginGroup("Memory and batches, of each rank");
  table.Size("kv-cache-size", &o.kv_cache_bytes, 1, kNoUpperBound,
             "Memory for keys and values, like 4GiB; default: --max-sequences full contexts, at "
             "most 1GiB");
  table.Integer("kv-blocks", &o.kv_blocks, 1, kNoUpperBound,
                "The same as a number of blocks; wins");
  table.Integer("block-size", &o.block_size, 1, 1024, "Tokens of a KV block");
  table.Integer("max-sequences", &o.max_sequences, 1, 65536, "Requests that run at a time");
  table.Integer("max-batched-tokens", &o.max_batched_tokens, 1, 1 << 20, "Tokens of a step");
  table.Size("rank-memory", &o.rank_memory_bytes, 1, kNoUpperBound,
             "With --dry-run: memory of a rank, to say how many KV blocks fit");
}

void AddSchedulingOptions(OptionTable& table, DaemonOptions& o) {
  table.BeginGroup("Scheduling");
  table.Boolean("no-prefix-cache", &o.no_prefix_cache,
                "Compute every prompt from its start, also where another began the same");
  table.Seconds("priority-ageing", &o.priority_ageing_seconds, 0, 86400,
                "Waiting time that is worth a level of priority; 0: priorities do nothing");
}

void AddExpertOptions(OptionTable& table, DaemonOptions& o) {
  table.BeginGroup("Experts");
  table.Number("capacity-factor", &o.capacity_factor, 0, 1e6, "FACTOR",
               "An expert takes at most so many times its even share of a rank's rows in a step, "
               "the rest goes without it; answers then depend on what else is computed. 0: no "
               "limit");
  table.Integer("max-experts-per-token", &o.limits.experts_per_token, 1, kNoUpperBound,
                "Experts that a request may send each token to; more than the model's cost "
                "memory. Default: the model's");
  table.Boolean("allow-routed-experts", &o.limits.routed_experts,
                "Let requests ask which experts their tokens went to: tells about content");
  table.Boolean("expert-token-statistics", &o.expert_token_statistics,
                "Count which tokens each expert receives, for moedctl experts --tokens: tells "
                "about content, and costs memory");
}

}  // namespace

void AddEngineOptions(OptionTable& table, DaemonOptions& o) {
  AddModelOptions(table, o);
  AddDeviceOptions(table, o);
  AddRankOptions(table, o);
  AddBatchOptions(table, o);
  AddSchedulingOptions(table, o);
  AddExpertOptions(table, o);
}

}  // namespace moed
