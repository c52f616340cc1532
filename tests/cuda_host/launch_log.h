// How often each kernel has run.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/strings/string_view.h"

namespace moed::cuda_host {

// "RmsNormKernel" of "(moed::cuda::RmsNormKernel<float, 256>)".
std::string KernelName(absl::string_view expression);

// By name, since the last reset.
std::map<std::string, int64_t> LaunchCounts();
void ResetLaunchCounts();
// By name, since the program started.
std::map<std::string, int64_t> TotalLaunchCounts();

// A kernel has run.
void LogLaunch(const char* expression);

}  // namespace moed::cuda_host
