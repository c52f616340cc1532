# Language level, warnings, sanitizers and ccache for every target.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

find_program(MOED_CCACHE ccache)
if(MOED_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${MOED_CCACHE})
endif()

add_compile_options(-Wall -Wextra -Wshadow -Wnon-virtual-dtor -Walloca -Wvla)
# A product and a sum are fused only where the code says so: the vector body and the scalar tail of
# a loop must round alike, or a row's bits would depend on its place in the batch.
add_compile_options(-ffp-contract=off)
if(MOED_WERROR)
  add_compile_options(-Werror)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  add_compile_options(-Wthread-safety)
endif()
if(MOED_SANITIZE)
  add_compile_options(-fsanitize=${MOED_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${MOED_SANITIZE})
  if(MOED_SANITIZE MATCHES undefined)
    # Asks a pipe whether the type's table may be read, so that a process without a descriptor left,
    # which tests bring about, is told of a wrong type where there is none.
    add_compile_options(-fno-sanitize=vptr)
  endif()
  find_program(MOED_LLD ld.lld)
  if(MOED_LLD)
    add_link_options(-fuse-ld=lld)  # links in about half the time
  endif()
endif()
