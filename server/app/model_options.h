// From the command line to what checkpoint, ranks and engine ask for.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/core/dtype.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/engine/engine_impl.h"
#include "runtime/engine/thread_worker_group.h"
#include "server/app/compute_device.h"
#include "server/app/daemon_options.h"

namespace moed {

// "auto": the checkpoint's, and float32 for float16, which bfloat16 would round.
absl::StatusOr<DType> ActivationDType(const DaemonOptions& options, const ModelConfig& config);

// The name in requests: --model-name, or the last part of the directory's path.
std::string ModelName(const DaemonOptions& options);

// Blocks of a rank's KV cache: --kv-blocks, --kv-cache-size or what max_sequences full contexts
// need within kDefaultKvCacheBytes. RESOURCE_EXHAUSTED where the size holds none.
absl::StatusOr<int64_t> KvBlocksPerRank(const DaemonOptions& options, const ModelConfig& config,
                                        DType activation);

// INVALID_ARGUMENT where --max-experts-per-token is less than the model's or more than it has.
absl::Status CheckExpertsPerToken(const DaemonOptions& options, const ModelConfig& config);

// FAILED_PRECONDITION where this processor lacks --cpu-isa.
absl::StatusOr<ThreadWorkerGroupOptions> GroupOptions(const DaemonOptions& options,
                                                      const ComputeDevice& device,
                                                      const ModelConfig& config,
                                                      std::shared_ptr<WeightSource> weights);

EngineOptions MakeEngineOptions(const DaemonOptions& options);

}  // namespace moed
