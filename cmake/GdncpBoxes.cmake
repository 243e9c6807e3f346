# The boxes of the architecture as CMake targets.

# gdncp_add_box(name FOLDERS folder... [USES box...] [LIBRARIES target...])
#
# An object library gdncp_<name> of all sources in the folders (patterns allowed). Whoever uses
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
  add_library(gdncp_${name} OBJECT ${sources})
  target_include_directories(gdncp_${name} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/include ${folders})
  target_link_libraries(gdncp_${name} PUBLIC ${box_LIBRARIES})
  foreach(used IN LISTS box_USES)
    target_link_libraries(gdncp_${name} PUBLIC gdncp_${used})
  endforeach()
  set_property(GLOBAL APPEND PROPERTY GDNCP_BOXES gdncp_${name})
endfunction()

# The shared library of all boxes, and gdncp_internal: the same objects as a static library for
# tests that look inside.
function(gdncp_add_shared_library)
  get_property(boxes GLOBAL PROPERTY GDNCP_BOXES)
  add_library(gdncp SHARED)
  add_library(gdncp_internal STATIC)
  foreach(box IN LISTS boxes)
    target_sources(gdncp PRIVATE $<TARGET_OBJECTS:${box}>)
    target_sources(gdncp_internal PRIVATE $<TARGET_OBJECTS:${box}>)
    target_link_libraries(gdncp_internal PUBLIC ${box})
    get_target_property(libraries ${box} LINK_LIBRARIES)
    list(FILTER libraries EXCLUDE REGEX "^gdncp_")
    target_link_libraries(gdncp PRIVATE ${libraries})
  endforeach()
  target_link_libraries(gdncp PRIVATE m)
  target_link_libraries(gdncp_internal PUBLIC m)
  target_include_directories(gdncp PUBLIC
    $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
  set_target_properties(gdncp PROPERTIES
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINKER_LANGUAGE C)
  set_target_properties(gdncp_internal PROPERTIES LINKER_LANGUAGE C)
endfunction()
