// CUDA for g++: what stands ahead (-include) of a kernel file, so that it compiles as plain C++ and
// runs on the CPU, one fiber a CUDA thread. Shows errors of indexing, barriers, warp masks, memory
// and races; not speed, occupancy or the memory order between blocks. Needs no CUDA toolkit.
#pragma once

#define MOED_CUDA_HOST 1

#include <math.h>  // NOLINT(modernize-deprecated-headers): kernels call fmaxf and isnan unqualified

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/cuda_host/atomics.h"
#include "tests/cuda_host/kernel_launch.h"
#include "tests/cuda_host/keywords.h"
#include "tests/cuda_host/math_functions.h"
#include "tests/cuda_host/thread.h"
#include "tests/cuda_host/vector_types.h"
#include "tests/cuda_host/warp_functions.h"
