// The daemon's settings: flags, the same as environment variables, and as keys of a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "server/state/request_limits.h"

namespace moed {

// Defaults are what --help shows.
struct DaemonOptions {
  // Model
  std::string model;
  std::string model_name;
  std::string load_format = "auto";
  uint64_t dummy_seed = 0;
  bool verify_checkpoint = false;
  std::string dtype = "auto";
  double null_step_seconds = 0;  // that a step of kNullModel takes
  // Device
  std::string device = "auto";
  std::string gpu_plugin;  // empty: DefaultGpuPluginPath
  int gpu_device = 0;
  bool deterministic = false;
  // Ranks
  int ranks = 1;
  std::string emulate_rank;  // "R/N"; empty: none
  int threads = 0;           // 0: as many as the process may use
  std::string cpu_isa = "auto";
  std::string exchange = "auto";
  double rank_timeout_seconds = 30;
  // Memory and batches, of each rank
  int64_t kv_cache_bytes = 0;  // 0: from max_sequences, see kDefaultKvCacheBytes
  int64_t kv_blocks = 0;       // 0: from kv_cache_bytes
  int64_t block_size = 16;
  int32_t max_sequences = 64;
  int32_t max_batched_tokens = 512;
  int64_t rank_memory_bytes = 0;  // for dry_run; 0: not compared
  // Scheduling
  bool no_prefix_cache = false;
  double priority_ageing_seconds = 1;
  // Experts
  double capacity_factor = 0;  // 0: no limit
  bool expert_token_statistics = false;
  // Requests
  RequestLimits limits;
  // Network
  std::vector<std::string> listen = {"127.0.0.1:9000"};        // gRPC
  std::vector<std::string> admin_listen = {"127.0.0.1:9400"};  // HTTP: probes, metrics, the page
  std::string port_file;  // gRPC's ports, then the admin ports, one a line
  bool grpc_reflection = false;
  size_t stream_buffer_bytes = size_t{1} << 20;
  double drain_timeout_seconds = 30;
  double slow_reader_timeout_seconds = 30;  // with output waiting and none taken; 0: no limit
  int max_connections = 4096;               // of gRPC
  double keepalive_seconds = 60;            // between pings on a quiet connection
  double max_connection_age_seconds = 0;    // 0: no limit
  int max_metadata_bytes = 16 << 10;
  // Security
  std::string key_file;
  std::string tls_certificate;
  std::string tls_key;
  std::string tls_client_ca;
  bool admin_tls = false;  // the admin port too; without client certificates
  // Logs
  std::string log_format = "auto";
  std::string log_level = "info";
  bool access_log = true;

  bool dry_run = false;
  bool check_config = false;
};

// A --model that is no directory: tokens without compute.
inline constexpr char kNullModel[] = "null";
// Without a flag a rank's cache holds max_sequences full contexts, or this if that is less.
inline constexpr int64_t kDefaultKvCacheBytes = int64_t{1} << 30;

// What reading the settings came to: options, or a text to print and an exit code.
struct ParsedCommandLine {
  bool run = false;
  DaemonOptions options;  // where not to run: as far as they could be read
  // 0: --help, --version, --print-config; kExitUsage where a flag is wrong, kExitConfig where only
  // the environment or the file is. `text` then names all that is wrong.
  int exit_code = 0;
  std::string text;
};

// A flag beats its environment variable (--kv-blocks: MOED_KV_BLOCKS; empty is as not there), which
// beats the key in the file of --config (kv-blocks), which beats the default. May be called again:
// it reads the file anew.
ParsedCommandLine ParseCommandLine(int argc, const char* const* argv);

// Whether every address is one that only this machine reaches.
bool AllLoopback(const std::vector<std::string>& listen);

}  // namespace moed
