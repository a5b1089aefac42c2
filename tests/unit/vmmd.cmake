foreach(part cmdline net qmp script)
	bulkhead_test(test_vmmd_${part} unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/vmmd_${part}.c
		LINK vmmd_core bulkhead_test)
endforeach()
