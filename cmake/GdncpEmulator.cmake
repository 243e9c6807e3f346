# The emulator of CUDA kernels: part of box device, so that all programs of this build have it.
file(GLOB emulator CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/emulator/*.cpp)
gdncp_add_kernel_objects(device emulator ${emulator})
target_include_directories(gdncp_device_emulator PRIVATE ${PROJECT_SOURCE_DIR}/tests/emulator)
target_link_libraries(gdncp_device_emulator PRIVATE Boost::context)
target_link_libraries(gdncp_device PUBLIC $<LINK_ONLY:Boost::context>)
set_property(GLOBAL APPEND PROPERTY GDNCP_BOX_LIBRARIES Boost::context)
