foreach(part start life exec processes lies order)
	bulkhead_test(test_agentd_${part} proc
		SOURCES ${CMAKE_CURRENT_LIST_DIR}/agentd_${part}.c
			${CMAKE_CURRENT_LIST_DIR}/agentd_scripted.c ${CMAKE_CURRENT_LIST_DIR}/agentd_rig.c
			${CMAKE_CURRENT_LIST_DIR}/agentd_guest.c ${CMAKE_CURRENT_LIST_DIR}/common_role.c
		LINK bulkhead_test bulkhead_ipc bulkhead_agent_proto TIMEOUT 240)
	add_dependencies(test_agentd_${part} bulkhead-agentd)
endforeach()
