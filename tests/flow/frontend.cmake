bulkhead_library(frontend_harness
	SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/frontend_harness.c
	LINK bulkhead_test bulkhead_ipc bulkhead_agent_proto frontend_proto)
add_dependencies(frontend_harness bulkhead-frontend)
foreach(t create disks exec life links oom pids update vm events)
	bulkhead_test(test_frontend_${t} flow
		SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/frontend_${t}.c
		LINK frontend_harness TIMEOUT 300)
endforeach()
