bulkhead_test(test_vmmd_golden golden SOURCES ${CMAKE_CURRENT_LIST_DIR}/vmmd_cmdline.c
	LINK vmmd_core bulkhead_test)
target_compile_definitions(test_vmmd_golden PRIVATE
	GOLDEN_DIR="${CMAKE_CURRENT_LIST_DIR}/vmmd")
