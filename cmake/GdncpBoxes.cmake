# The boxes of the architecture as CMake targets.

# gdncp_add_box(name FOLDERS folder... [USES box...] [LIBRARIES target...])
#
# A static library gdncp_<name> of all sources in the folders (patterns allowed). Whoever uses
# the box may include the headers in its folders, and those of the boxes that it uses.
function(gdncp_add_box name)
  cmake_parse_arguments(PARSE_ARGV 1 box "" "" "FOLDERS;USES;LIBRARIES")
  set(sources)
  set(folders)
  foreach(pattern IN LISTS box_FOLDERS)
    file(GLOB matches LIST_DIRECTORIES true CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${pattern})
    foreach(folder IN LISTS matches)
      if(IS_DIRECTORY ${folder})
        file(GLOB folder_sources CONFIGURE_DEPENDS ${folder}/*.c)
        list(APPEND sources ${folder_sources})
        list(APPEND folders ${folder})
      endif()
    endforeach()
  endforeach()
  list(TRANSFORM box_USES PREPEND gdncp_)
  # The objects serve the static library, which tests link, and the shared one.
  add_library(gdncp_${name}_objects OBJECT ${sources})
  add_library(gdncp_${name} STATIC $<TARGET_OBJECTS:gdncp_${name}_objects>)
  set_target_properties(gdncp_${name} PROPERTIES LINKER_LANGUAGE C)
  target_link_libraries(gdncp_${name}_objects PRIVATE ${box_USES} ${box_LIBRARIES})
  target_include_directories(gdncp_${name}_objects PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/include ${folders})
  target_include_directories(gdncp_${name} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/include ${folders})
  target_link_libraries(gdncp_${name} PUBLIC ${box_USES} ${box_LIBRARIES} m)
  set_property(GLOBAL APPEND PROPERTY GDNCP_BOXES ${name})
  set_property(GLOBAL PROPERTY GDNCP_BOX_FOLDERS_${name} ${folders})
  set_property(GLOBAL APPEND PROPERTY GDNCP_BOX_OBJECTS $<TARGET_OBJECTS:gdncp_${name}_objects>)
  set_property(GLOBAL APPEND PROPERTY GDNCP_BOX_LIBRARIES ${box_LIBRARIES})
endfunction()

# The shared library of all boxes, which exports what the public headers mark GDNCP_API.
function(gdncp_add_shared_library)
  get_property(objects GLOBAL PROPERTY GDNCP_BOX_OBJECTS)
  get_property(libraries GLOBAL PROPERTY GDNCP_BOX_LIBRARIES)
  list(REMOVE_DUPLICATES libraries)
  add_library(gdncp SHARED ${objects})
  add_library(gdncp::gdncp ALIAS gdncp)
  # BUILD_INTERFACE: who uses the shared library need not find what it is linked with.
  target_link_libraries(gdncp PRIVATE $<BUILD_INTERFACE:${libraries};m>)
  target_include_directories(gdncp PUBLIC
    $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  set(map ${CMAKE_CURRENT_BINARY_DIR}/libgdncp.map)
  configure_file(cmake/libgdncp.map.in ${map} @ONLY)
  target_link_options(gdncp PRIVATE LINKER:--version-script=${map})
  # Before 1.0 a minor version may change the interface, so it is part of the SONAME.
  set_target_properties(gdncp PROPERTIES
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
    LINK_DEPENDS ${map} LINKER_LANGUAGE C)
  if(NOT GDNCP_SANITIZE) # a sanitizer's runtime is linked to the program
    target_link_options(gdncp PRIVATE LINKER:--no-undefined)
  endif()
endfunction()

# gdncp_add_kernels(name [CUDA_HOST source...]): compile the *.cu of a box's folders, once with nvcc for GPUs and once as
# C++ for the emulator, whichever of them this build has, and make them part of the box. Sources of
# CUDA_HOST go with the first.
function(gdncp_add_kernels name)
  cmake_parse_arguments(PARSE_ARGV 1 kernels "" "" "CUDA_HOST")
  get_property(folders GLOBAL PROPERTY GDNCP_BOX_FOLDERS_${name})
  set(kernels)
  foreach(folder IN LISTS folders)
    file(GLOB folder_kernels CONFIGURE_DEPENDS ${folder}/*.cu)
    list(APPEND kernels ${folder_kernels})
  endforeach()
  if(GDNCP_CUDA)
    gdncp_add_kernel_objects(${name} cuda ${kernels} ${kernels_CUDA_HOST})
  endif()
  if(TARGET gdncp_${name}_cuda)
    set_target_properties(gdncp_${name}_cuda PROPERTIES
      CUDA_ARCHITECTURES "${GDNCP_CUDA_ARCHITECTURES}")
    target_compile_options(gdncp_${name}_cuda PRIVATE
      "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;-Xptxas=-v>")
    target_link_libraries(gdncp_${name}_cuda PRIVATE CUDA::cudart_static)
    target_link_libraries(gdncp_${name} PUBLIC CUDA::cudart_static stdc++)
    set_property(GLOBAL APPEND PROPERTY GDNCP_BOX_LIBRARIES CUDA::cudart_static stdc++)
  endif()
  if(GDNCP_EMULATOR)
    set(wrappers)
    foreach(kernel IN LISTS kernels)
      file(RELATIVE_PATH path ${PROJECT_SOURCE_DIR} ${kernel})
      string(REPLACE / _ path ${path})
      set(wrapper ${PROJECT_BINARY_DIR}/emulated/${path}.cpp)
      file(CONFIGURE OUTPUT ${wrapper} CONTENT "#include \"${kernel}\"\n")
      list(APPEND wrappers ${wrapper})
    endforeach()
    gdncp_add_kernel_objects(${name} emulated ${wrappers})
  endif()
  if(TARGET gdncp_${name}_emulated)
    target_include_directories(gdncp_${name}_emulated PRIVATE ${PROJECT_SOURCE_DIR}/tests/emulator)
    target_link_libraries(gdncp_${name} PUBLIC stdc++)
    set_property(GLOBAL APPEND PROPERTY GDNCP_BOX_LIBRARIES stdc++)
  endif()
endfunction()

# The objects of a box's kernels in one of the two builds.
function(gdncp_add_kernel_objects name build)
  if(NOT ARGN)
    return()
  endif()
  add_library(gdncp_${name}_${build} OBJECT ${ARGN})
  target_include_directories(gdncp_${name}_${build} PRIVATE
    $<TARGET_PROPERTY:gdncp_${name}_objects,INCLUDE_DIRECTORIES>)
  target_sources(gdncp_${name} PRIVATE $<TARGET_OBJECTS:gdncp_${name}_${build}>)
  set_property(GLOBAL APPEND PROPERTY GDNCP_BOX_OBJECTS $<TARGET_OBJECTS:gdncp_${name}_${build}>)
endfunction()
