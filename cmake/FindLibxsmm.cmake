# Libxsmm::Libxsmm: just-in-time small matrix products, without the BLAS it can fall back to.
find_path(Libxsmm_INCLUDE_DIR libxsmm.h)
find_library(Libxsmm_LIBRARY xsmm)
find_library(Libxsmm_NOBLAS_LIBRARY xsmmnoblas)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Libxsmm
  REQUIRED_VARS Libxsmm_LIBRARY Libxsmm_NOBLAS_LIBRARY Libxsmm_INCLUDE_DIR)

if(Libxsmm_FOUND AND NOT TARGET Libxsmm::Libxsmm)
  add_library(Libxsmm::Libxsmm UNKNOWN IMPORTED)
  set_target_properties(Libxsmm::Libxsmm PROPERTIES
    IMPORTED_LOCATION ${Libxsmm_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${Libxsmm_INCLUDE_DIR}
    INTERFACE_LINK_LIBRARIES "${Libxsmm_NOBLAS_LIBRARY};${CMAKE_DL_LIBS};m;pthread")
endif()
mark_as_advanced(Libxsmm_INCLUDE_DIR Libxsmm_LIBRARY Libxsmm_NOBLAS_LIBRARY)
