foreach(part launch hostile)
	bulkhead_test(test_vmmd_${part} proc
		SOURCES ${CMAKE_CURRENT_LIST_DIR}/vmmd_${part}.c ${CMAKE_CURRENT_LIST_DIR}/vmmd_rig.c
			${CMAKE_CURRENT_LIST_DIR}/vmmd_fake.c ${CMAKE_CURRENT_LIST_DIR}/common_role.c
		LINK bulkhead_ipc bulkhead_test
		TIMEOUT 300)
	add_dependencies(test_vmmd_${part} bulkhead-vmmd bulkhead-slot)
endforeach()

bulkhead_test(test_vmmd_devices proc
	SOURCES ${CMAKE_CURRENT_LIST_DIR}/vmmd_devices.c ${CMAKE_CURRENT_LIST_DIR}/vmmd_rig.c
	LINK vmmd_core bulkhead_ipc bulkhead_test
	TIMEOUT 300)
add_dependencies(test_vmmd_devices bulkhead-slot)
