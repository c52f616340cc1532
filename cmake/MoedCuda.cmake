# Whether the GPU plugin is built. Sets MOED_BUILD_CUDA, and has the language CUDA enabled then. All
# else of the CUDA backend needs no toolkit and is built everywhere.
set(MOED_CUDA AUTO CACHE STRING
  "Build the CUDA plugin: AUTO (where the toolkit is found; not by clang or with sanitizers), ON, OFF")
set_property(CACHE MOED_CUDA PROPERTY STRINGS AUTO ON OFF)
# Code for each generation, and an intermediate form that newer devices translate when they load it.
set(MOED_CUDA_ARCHITECTURES "80-real;90a-real;100-real;90-virtual" CACHE STRING
  "CUDA architectures of the plugin, as CMAKE_CUDA_ARCHITECTURES")
set(MOED_BUILD_CUDA OFF)

if(NOT MOED_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "MOED_CUDA must be AUTO, ON or OFF, not ${MOED_CUDA}")
endif()
if(MOED_CUDA STREQUAL "OFF")
  message(STATUS "CUDA plugin: left out, as MOED_CUDA=OFF asks")
  return()
endif()
if(MOED_SANITIZE OR CMAKE_CXX_COMPILER_ID MATCHES Clang)
  if(MOED_CUDA STREQUAL "ON")
    message(FATAL_ERROR "MOED_CUDA=ON needs g++ and no sanitizers: nvcc compiles for neither")
  endif()
  message(STATUS "CUDA plugin: left out of builds by clang or with sanitizers")
  return()
endif()

# The plugin is left out for the reason given; with ON that is an error.
function(moed_without_cuda reason)
  if(MOED_CUDA STREQUAL "ON")
    message(FATAL_ERROR "MOED_CUDA=ON, but ${reason}")
  endif()
  message(WARNING
    "\n"
    "  ****************************************************************************\n"
    "  *  NO GPU SUPPORT IN THIS BUILD: libmoed_cuda.so is left out, because\n"
    "  *  ${reason}.\n"
    "  *  `moed --device cuda` will fail. Install the CUDA toolkit (12.8 or later)\n"
    "  *  and configure anew, or say -DMOED_CUDA=OFF to be rid of this message.\n"
    "  ****************************************************************************\n")
endfunction()

include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  moed_without_cuda("no nvcc was found (it is looked for in PATH and where CUDACXX points)")
  return()
endif()
find_package(CUDAToolkit)
if(NOT TARGET CUDA::cudart_static OR NOT TARGET CUDA::cublasLt OR NOT TARGET CUDA::nvtx3)
  moed_without_cuda("the toolkit of ${CMAKE_CUDA_COMPILER} lacks cudart_static, cublasLt or nvtx3")
  return()
endif()
if(CUDAToolkit_VERSION VERSION_LESS 12.8)  # the first to know sm_100
  moed_without_cuda("the toolkit is ${CUDAToolkit_VERSION}, and 12.8 or later is needed")
  return()
endif()

set(CMAKE_CUDA_ARCHITECTURES ${MOED_CUDA_ARCHITECTURES})
enable_language(CUDA)
# CMake 3.25 does not know that nvcc 12 has learnt C++20. The level itself is that of CXX.
foreach(kind STANDARD EXTENSION)
  if(NOT CMAKE_CUDA20_${kind}_COMPILE_OPTION)
    set(CMAKE_CUDA20_${kind}_COMPILE_OPTION "-std=c++20")
  endif()
endforeach()
if(MOED_CCACHE)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${MOED_CCACHE})
endif()
set(MOED_BUILD_CUDA ON)
message(STATUS "CUDA plugin: toolkit ${CUDAToolkit_VERSION}, architectures "
  "${MOED_CUDA_ARCHITECTURES}")
