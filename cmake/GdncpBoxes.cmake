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
  add_library(gdncp_${name} STATIC ${sources})
  target_include_directories(gdncp_${name} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/include ${folders})
  target_link_libraries(gdncp_${name} PUBLIC ${box_USES} ${box_LIBRARIES} m)
  set_property(GLOBAL APPEND PROPERTY GDNCP_BOXES gdncp_${name})
endfunction()

# The shared library of all boxes.
function(gdncp_add_shared_library)
  get_property(boxes GLOBAL PROPERTY GDNCP_BOXES)
  add_library(gdncp SHARED ${CMAKE_CURRENT_SOURCE_DIR}/common/version/version.c)
  target_compile_definitions(gdncp PRIVATE GDNCP_VERSION="${PROJECT_VERSION}")
  target_link_libraries(gdncp PRIVATE ${boxes})
  list(JOIN boxes "," whole)
  set_property(TARGET gdncp PROPERTY LINK_LIBRARY_OVERRIDE "WHOLE_ARCHIVE,${whole}")
  target_include_directories(gdncp PUBLIC
    $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
  set_target_properties(gdncp PROPERTIES
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINKER_LANGUAGE C)
endfunction()
