# Taken-over neighbours: hostile.h
set(proc ${CMAKE_SOURCE_DIR}/tests/proc)
bulkhead_library(hostile
	SOURCES ${proc}/hostile.c ${proc}/hostile_forms.c ${proc}/hostile_payloads.c ${proc}/hostile_ctl.c
		${proc}/ctl_shape.c
		${proc}/common_role.c ${CMAKE_SOURCE_DIR}/tests/unit/common_kinds.c
	LINK bulkhead_test bulkhead_ipc bulkhead_common)

bulkhead_test(test_hostile_helpers proc SOURCES ${proc}/hostile_helpers.c LINK hostile TIMEOUT 300)
add_dependencies(test_hostile_helpers bulkhead-netd bulkhead-persistd)

bulkhead_test(test_hostile_mountd proc SOURCES ${proc}/hostile_mountd.c ${proc}/mountd_rig.c
	LINK hostile TIMEOUT 300)
add_dependencies(test_hostile_mountd bulkhead-mountd)

bulkhead_test(test_hostile_agentd proc
	SOURCES ${proc}/hostile_agentd.c ${proc}/agentd_rig.c ${proc}/agentd_guest.c
	LINK hostile bulkhead_agent_proto TIMEOUT 300)
add_dependencies(test_hostile_agentd bulkhead-agentd)

bulkhead_test(test_hostile_vmmd proc
	SOURCES ${proc}/hostile_vmmd.c ${proc}/vmmd_fake.c ${proc}/vmmd_rig.c LINK hostile TIMEOUT 300)
add_dependencies(test_hostile_vmmd bulkhead-vmmd bulkhead-slot)

# The harness is of tests/flow, which is read after us.
bulkhead_test(test_hostile_frontend proc SOURCES ${proc}/hostile_frontend.c
	LINK hostile frontend_harness TIMEOUT 300)

add_executable(hostile_twin ${proc}/hostile_twin.c ${proc}/ctl_shape.c)
target_link_libraries(hostile_twin PRIVATE bulkhead_ipc)
bulkhead_test(test_hostile_supervisor proc SOURCES ${proc}/hostile_supervisor.c LINK hostile)
add_dependencies(test_hostile_supervisor bulkhead-supervisor hostile_twin)
