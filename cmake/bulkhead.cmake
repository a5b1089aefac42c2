# Flags that every target of ours gets, and the three kinds of target there are.

add_library(bulkhead_flags INTERFACE)
target_compile_definitions(bulkhead_flags INTERFACE _GNU_SOURCE BULKHEAD_VERSION="${PROJECT_VERSION}")
target_include_directories(bulkhead_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(bulkhead_flags INTERFACE
	-Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wformat=2
	-Wvla -Wundef -fno-strict-aliasing -fstack-protector-strong)
if(BULKHEAD_WERROR)
	target_compile_options(bulkhead_flags INTERFACE -Werror)
endif()
if(BULKHEAD_SANITIZE)
	target_compile_options(bulkhead_flags INTERFACE -fsanitize=address,undefined
		-fno-sanitize-recover=undefined -fno-omit-frame-pointer)
	target_link_options(bulkhead_flags INTERFACE -fsanitize=address,undefined)
	if(BULKHEAD_FUZZ)
		target_compile_options(bulkhead_flags INTERFACE -fsanitize=fuzzer-no-link)
	endif()
else()
	target_compile_options(bulkhead_flags INTERFACE -fstack-clash-protection -fcf-protection)
	target_link_options(bulkhead_flags INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed)
	if(CMAKE_BUILD_TYPE STREQUAL "Release")
		target_compile_definitions(bulkhead_flags INTERFACE _FORTIFY_SOURCE=2)
	endif()
endif()

# bulkhead_library(name SOURCES... [LINK libs...]): a static library
function(bulkhead_library name)
	cmake_parse_arguments(A "" "" "SOURCES;LINK" ${ARGN})
	add_library(${name} STATIC ${A_SOURCES})
	target_link_libraries(${name} PUBLIC bulkhead_flags ${A_LINK})
endfunction()

# bulkhead_daemon(name SOURCES... [LINK libs...]): a helper, installed in libexec.
# Its sources but main.c are a library too, <name>_core, so that unit tests link the same objects.
function(bulkhead_daemon name)
	cmake_parse_arguments(A "" "" "SOURCES;LINK" ${ARGN})
	set(core ${A_SOURCES})
	list(REMOVE_ITEM core main.c)
	if(core)
		bulkhead_library(${name}_core SOURCES ${core} LINK ${A_LINK})
		add_executable(bulkhead-${name} main.c)
		target_link_libraries(bulkhead-${name} PRIVATE ${name}_core)
	else()
		add_executable(bulkhead-${name} main.c)
		target_link_libraries(bulkhead-${name} PRIVATE bulkhead_flags ${A_LINK})
	endif()
	install(TARGETS bulkhead-${name} RUNTIME DESTINATION ${BULKHEAD_LIBEXECDIR})
endfunction()

# bulkhead_test(name tier SOURCES... [LINK libs...] [TIMEOUT s]): one test program under ctest
function(bulkhead_test name tier)
	cmake_parse_arguments(A "" "TIMEOUT" "SOURCES;LINK" ${ARGN})
	if(NOT A_TIMEOUT)
		set(A_TIMEOUT 60)
	endif()
	add_executable(${name} ${A_SOURCES})
	target_link_libraries(${name} PRIVATE bulkhead_flags ${A_LINK})
	add_test(NAME ${tier}/${name} COMMAND ${name})
	# COST: ctest begins with those that may take long
	set_tests_properties(${tier}/${name} PROPERTIES TIMEOUT ${A_TIMEOUT} COST ${A_TIMEOUT}
		SKIP_RETURN_CODE 77
		LABELS ${tier} ENVIRONMENT "BULKHEAD_BUILD=${CMAKE_BINARY_DIR}")
endfunction()
