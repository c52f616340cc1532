# Several sources of a target compiled as one text, which parses their headers and instantiates their
# templates once. scripts/test asks for it where gcc compiles everything again under a sanitizer.
# Each file is compiled alone elsewhere: the product in the release and clang stages, tests in a build
# without the option.
option(MOED_UNITY "Compile sources of a target together (quicker cold builds)" OFF)
set(MOED_UNITY_FILES 8 CACHE STRING "How many sources at once: more take more memory")

if(MOED_UNITY)
  find_program(MOED_PYTHON NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)
endif()

# moed_unity(TARGET): what it takes together, unity_groups.py says.
function(moed_unity target)
  if(NOT MOED_UNITY)
    return()
  endif()
  get_target_property(sources ${target} SOURCES)
  list(FILTER sources EXCLUDE REGEX "^${PROJECT_BINARY_DIR}")  # what is yet to be generated
  list(TRANSFORM sources PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/ REGEX "^[^/]")
  execute_process(
    COMMAND ${MOED_PYTHON} ${PROJECT_SOURCE_DIR}/cmake/unity_groups.py ${MOED_UNITY_FILES} ${sources}
    OUTPUT_VARIABLE lines OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE "\n" ";" lines "${lines}")
  foreach(line IN LISTS lines)
    string(REGEX MATCH "^([0-9]+) (.*)$" line "${line}")
    get_source_file_property(group ${CMAKE_MATCH_2} UNITY_GROUP)
    if(group)  # of another target as well, and a source has one group
      set_source_files_properties(${CMAKE_MATCH_2} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    else()
      set_source_files_properties(${CMAKE_MATCH_2} PROPERTIES UNITY_GROUP group_${CMAKE_MATCH_1})
    endif()
  endforeach()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
endfunction()
