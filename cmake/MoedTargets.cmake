# moed_library(NAME SOURCES ... DEPS ...): one static library per folder; the link line is the ladder.
function(moed_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS})
  if(gRPC::grpc++ IN_LIST ARG_DEPS)
    moed_precompiled(${name} GRPC)
  else()
    moed_precompiled(${name} LIBRARY)
  endif()
  moed_unity(${name})
endfunction()

# moed_test(NAME SOURCES ... [ONE_THREAD ...] DEPS ... [TIMEOUT seconds] [LABEL label] [TOGETHER]):
# one GoogleTest program per folder of tests. In sources after ONE_THREAD no two threads meet: ThreadSanitizer, which
# would see nothing in them, is spared them. TOGETHER: its tests run in one process, as one test of
# ctest, which starts early. LABEL: ctest adds up the time of all tests with it.
function(moed_test name)
  cmake_parse_arguments(ARG "TOGETHER" "TIMEOUT;LABEL" "SOURCES;ONE_THREAD;DEPS" ${ARGN})
  if(NOT MOED_SANITIZE STREQUAL "thread")
    list(APPEND ARG_SOURCES ${ARG_ONE_THREAD})
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE MOED_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  # What is tested stays optimised; the tests themselves compile in less time, under a sanitizer in
  # half of it. Comes after -O3.
  if(MOED_SANITIZE)
    target_compile_options(${name} PRIVATE -O0)
    # What these cost is a third of a test's compilation. A bad pointer of a test itself mostly faults,
    # which AddressSanitizer reports; what is tested keeps them.
    if(MOED_SANITIZE MATCHES undefined)
      target_compile_options(${name} PRIVATE
        -fno-sanitize=null,alignment,object-size,nonnull-attribute,returns-nonnull-attribute)
    endif()
  else()
    target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  endif()
  moed_precompiled(${name} TEST)
  moed_unity(${name})
  if(ARG_TOGETHER)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} COST 1000 LABELS "${ARG_LABEL}")
  else()
    gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
      PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABEL}")
  endif()
endfunction()
