#include "server/app/option_conflicts.h"

#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/app/compute_device.h"

namespace moed {
namespace {

// What only a model that computes has a use for.
constexpr const char* kNotOfNullModel[] = {
    "load-format", "dummy-seed",    "dtype",       "threads",         "cpu-isa",
    "exchange",    "kv-cache-size", "rank-memory", "capacity-factor", "expert-token-statistics",
    "device",      "gpu-plugin",    "gpu-device",  "deterministic",   "emulate-rank"};

class Finder {
 public:
  Finder(const OptionTable& table, const DaemonOptions& options)
      : table_(table), options_(options) {}

  std::vector<OptionConflict> Find() {
    Security();
    Model();
    Device();
    Addresses();
    return std::move(conflicts_);
  }

 private:
  void Needs(const char* option, const char* other) {
    if (!table_.IsChanged(option) || table_.IsChanged(other)) return;
    Add(option, absl::StrCat("--", option, " needs --", other));
  }
  void Add(absl::string_view option, std::string text) {
    conflicts_.push_back({std::string(option), std::move(text)});
  }

  void Security() {
    Needs("tls-certificate", "tls-key");
    Needs("tls-key", "tls-certificate");
    Needs("tls-client-ca", "tls-certificate");
    if (!options_.admin_tls) return;
    Needs("admin-tls", "tls-certificate");
    if (options_.admin_listen.empty()) {
      Add("admin-tls", "--admin-tls has no port to work on with --admin-listen none");
    }
  }

  void Model() {
    const bool null_model = options_.model == kNullModel;
    if (null_model) {
      for (const char* name : kNotOfNullModel) {
        if (!table_.IsChanged(name)) continue;
        Add(name, absl::StrCat("--", name, " means nothing with --model null"));
      }
      if (options_.dry_run) Add("model", "--dry-run has nothing to tell of --model null");
    } else if (table_.IsChanged("null-step-time")) {
      Add("null-step-time", "--null-step-time is for --model null");
    }
    if (!null_model && table_.IsChanged("dummy-seed") && options_.load_format != "dummy") {
      Add("dummy-seed", "--dummy-seed needs --load-format dummy");
    }
    const Option* rank_memory = table_.Find("rank-memory");
    // In a file or the environment it may serve both runs.
    if (!null_model && rank_memory->source == ValueSource::kFlag && !options_.dry_run) {
      Add("rank-memory", "--rank-memory needs --dry-run");
    }
  }

  void Device() {
    if (options_.device == "cpu") {
      for (const char* name : {"gpu-plugin", "gpu-device"}) {
        if (table_.IsChanged(name)) {
          Add(name, absl::StrCat("--", name, " means nothing with --device cpu"));
        }
      }
    } else if (options_.device == "cuda") {
      for (const char* name : {"cpu-isa", "threads"}) {
        if (table_.IsChanged(name)) {
          Add(name, absl::StrCat("--", name, " means nothing with --device cuda"));
        }
      }
    }
    if (options_.emulate_rank.empty()) return;
    const absl::Status emulated = ParseEmulatedRank(options_.emulate_rank).status();
    if (!emulated.ok()) Add("emulate-rank", std::string(emulated.message()));
    if (options_.ranks != 1) {
      Add("ranks",
          "--emulate-rank runs one rank alone: leave --ranks out, the N of R/N says how "
          "many there would be");
    }
  }

  void Addresses() {
    std::set<std::string> seen;
    for (const std::string& address : options_.listen) Once(address, "listen", seen);
    for (const std::string& address : options_.admin_listen) Once(address, "admin-listen", seen);
  }
  void Once(const std::string& address, const char* option, std::set<std::string>& seen) {
    if (absl::EndsWith(address, ":0") || seen.insert(address).second) return;
    Add(option, absl::StrCat("--", option, ": ", address,
                             " is given twice, by --listen or --admin-listen"));
  }

  const OptionTable& table_;
  const DaemonOptions& options_;
  std::vector<OptionConflict> conflicts_;
};

}  // namespace

std::vector<OptionConflict> FindConflicts(const OptionTable& table, const DaemonOptions& options) {
  return Finder(table, options).Find();
}

}  // namespace moed
