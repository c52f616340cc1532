// Needs what no library has, as a plugin does where CUDA's are missing.
#include "parallel/gpu_plugin.h"

extern "C" const moed::GpuPluginEntry* moed_test_missing_symbol();
extern "C" const moed::GpuPluginEntry* moed_gpu_plugin() { return moed_test_missing_symbol(); }
