# Tests of layers that run a second time, on the device: see support/layer_on_device.h. Each is the
# program test_cuda_layer_<subject>, made of test_layer_<subject>.c.
set(device_layer_tests
  core
  golden
  rule)

add_library(gdncp_test_layer_on_device STATIC
  support/layer_on_device.c support/layer_device_call.c support/device_mirror.c)
target_include_directories(gdncp_test_layer_on_device PRIVATE emulator)
target_link_libraries(gdncp_test_layer_on_device PUBLIC gdncp_test_support gdncp_layer)

foreach(subject IN LISTS device_layer_tests)
  set(name test_cuda_layer_${subject})
  add_executable(${name} test_layer_${subject}.c)
  target_compile_options(${name} PRIVATE
    "SHELL:-DGDNCP_TEST_ON_DEVICE -include ${CMAKE_CURRENT_SOURCE_DIR}/support/layer_on_device.h")
  target_link_libraries(${name} PRIVATE gdncp_test_layer_on_device)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES
    TIMEOUT 900 LABELS emulator ENVIRONMENT "${sanitizer_environment}")
endforeach()

# Any order of threads gives the same bits, and so does any alignment that is legal.
add_test(NAME test_cuda_layer_core_schedules COMMAND test_cuda_layer_core)
set_tests_properties(test_cuda_layer_core_schedules PROPERTIES
  TIMEOUT 900 LABELS emulator
  ENVIRONMENT "${sanitizer_environment};GDNCP_TEST_SCHEDULES=3;GDNCP_TEST_DEVICE_OFFSET=1")

# What only layers on a device can get wrong.
add_executable(test_cuda_layer_device test_cuda_layer_device.c)
target_include_directories(test_cuda_layer_device PRIVATE emulator)
target_link_libraries(test_cuda_layer_device PRIVATE gdncp_test_support gdncp_layer)
add_test(NAME test_cuda_layer_device COMMAND test_cuda_layer_device)
set_tests_properties(test_cuda_layer_device PROPERTIES
  TIMEOUT 900 LABELS "emulator;threads" ENVIRONMENT "${sanitizer_environment}")

add_executable(test_cuda_layer_launches test_cuda_layer_launches.c)
target_include_directories(test_cuda_layer_launches PRIVATE emulator)
target_link_libraries(test_cuda_layer_launches PRIVATE gdncp_test_support gdncp_layer)
add_test(NAME test_cuda_layer_launches COMMAND test_cuda_layer_launches)
set_tests_properties(test_cuda_layer_launches PROPERTIES
  TIMEOUT 900 LABELS "emulator;threads" ENVIRONMENT "${sanitizer_environment}")
