# Tests of operators that run a second time, on the device: see support/on_device.h. Each is the
# program test_cuda_<subject>, made of test_ops_<subject>.c.
set(device_tests
  chunk_cumsum
  conv1d
  conv1d_arguments
  conv1d_segments
  conv1d_update
  conv1d_update_arguments
  conv1d_update_sequences
  gate
  gate_arguments
  delta_rule
  delta_rule_arguments
  delta_rule_gate
  delta_rule_layouts
  delta_rule_stability
  delta_rule_summary
  delta_rule_windows
  gated_rmsnorm
  l2norm
  linear
  mixed_dtypes
  recurrent_step
  recurrent_step_arguments
  recurrent_step_sequences
  state_merge)

add_library(gdncp_test_on_device STATIC
  support/on_device.c support/device_call.c support/device_mirror.c support/test_block.c)
target_include_directories(gdncp_test_on_device PUBLIC
  . support emulator ${PROJECT_SOURCE_DIR}/include)
target_link_libraries(gdncp_test_on_device PUBLIC PkgConfig::CMOCKA gdncp_ops)

# All support, such that calls of operators in it run on the device too.
set(renamed_support ${support})
list(FILTER renamed_support EXCLUDE REGEX test_block)
set(on_device "-DGDNCP_TEST_ON_DEVICE -include ${CMAKE_CURRENT_SOURCE_DIR}/support/on_device.h")
add_library(gdncp_test_support_on_device STATIC ${renamed_support})
target_compile_options(gdncp_test_support_on_device PUBLIC "SHELL:${on_device}")
target_compile_definitions(gdncp_test_support_on_device PUBLIC
  GDNCP_TEST_DATA="${CMAKE_CURRENT_SOURCE_DIR}/data")
target_link_libraries(gdncp_test_support_on_device PUBLIC gdncp_test_on_device m)

function(gdncp_add_device_test name source environment)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE gdncp_test_support_on_device gdncp_ops)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES
    TIMEOUT 900 LABELS emulator ENVIRONMENT "${sanitizer_environment};${environment}")
endfunction()

foreach(subject IN LISTS device_tests)
  set(name test_cuda_${subject})
  gdncp_add_device_test(${name} test_ops_${subject}.c "")
  # Any order of threads gives the same bits, and so does memory aligned to one element.
  if(NOT subject MATCHES "arguments$")
    add_test(NAME ${name}_schedules COMMAND ${name})
    set_tests_properties(${name}_schedules PROPERTIES
      TIMEOUT 900 LABELS emulator
      ENVIRONMENT "${sanitizer_environment};GDNCP_TEST_SCHEDULES=20;GDNCP_TEST_DEVICE_OFFSET=1")
  endif()
endforeach()

# On devices that differ in what their blocks may have; large heads, so threads take turns at random
# at once instead of in a run of its own.
gdncp_add_device_test(test_cuda_delta_rule_sizes test_cuda_delta_rule_sizes.c
                      GDNCP_EMULATOR_SEED=1)

# What only calls on a device can get wrong.
add_executable(test_cuda_arguments test_cuda_arguments.c)
target_link_libraries(test_cuda_arguments PRIVATE gdncp_test_support gdncp_ops)
add_test(NAME test_cuda_arguments COMMAND test_cuda_arguments)
set_tests_properties(test_cuda_arguments PROPERTIES
  TIMEOUT 900 LABELS emulator ENVIRONMENT "${sanitizer_environment}")
