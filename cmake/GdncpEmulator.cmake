# The emulator of CUDA kernels: part of box device, so that all programs of this build have it.
file(GLOB emulator CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/emulator/*.cpp)
gdncp_add_kernel_objects(device emulator ${emulator})
target_include_directories(gdncp_device_emulator PRIVATE ${PROJECT_SOURCE_DIR}/tests/emulator)
target_link_libraries(gdncp_device_emulator PRIVATE Boost::context)
target_link_libraries(gdncp_device PUBLIC $<LINK_ONLY:Boost::context>)
set_property(GLOBAL APPEND PROPERTY GDNCP_BOX_LIBRARIES Boost::context)

# It switches stacks and touches what lies on those of others, which no sanitizer understands: it
# is compiled without, always optimised, and tells the build's sanitizer what that must know.
target_compile_options(gdncp_device_emulator PRIVATE -O2 -fno-sanitize=all)
foreach(sanitizer address thread)
  if(GDNCP_SANITIZE MATCHES ${sanitizer})
    string(TOUPPER GDNCP_EMULATOR_${sanitizer} definition)
    target_compile_definitions(gdncp_device_emulator PRIVATE ${definition})
  endif()
endforeach()
