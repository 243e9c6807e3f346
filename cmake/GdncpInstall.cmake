# What `cmake --install` gives: headers, the library, gdncp.pc and gdncp-config.cmake. The tree may
# be moved afterwards: nothing in it names the prefix.
include(CMakePackageConfigHelpers)

set(config_folder ${CMAKE_INSTALL_LIBDIR}/cmake/gdncp)

install(DIRECTORY include/gdncp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN *.h)
install(TARGETS gdncp EXPORT gdncp-targets DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT gdncp-targets NAMESPACE gdncp:: DESTINATION ${config_folder})

configure_package_config_file(cmake/gdncp-config.cmake.in gdncp-config.cmake
  INSTALL_DESTINATION ${config_folder} NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(gdncp-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/gdncp-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/gdncp-config-version.cmake
        DESTINATION ${config_folder})

file(RELATIVE_PATH GDNCP_PC_TO_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
string(REGEX REPLACE "/$" "" GDNCP_PC_TO_PREFIX ${GDNCP_PC_TO_PREFIX})
configure_file(cmake/gdncp.pc.in gdncp.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/gdncp.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
