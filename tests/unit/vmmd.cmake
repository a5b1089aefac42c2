foreach(part cmdline net qmp)
	bulkhead_test(test_vmmd_${part} unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/vmmd_${part}.c
		LINK vmmd_core bulkhead_test)
endforeach()

bulkhead_test(test_vmmd_script unit
	SOURCES ${CMAKE_CURRENT_LIST_DIR}/vmmd_script.c ${CMAKE_CURRENT_LIST_DIR}/vmmd_scripted.c
	LINK vmmd_core bulkhead_test)
