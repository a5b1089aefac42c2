foreach(part launch hostile vsock)
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

# Part of a guest's initrd: static, and of no build's choice.
add_executable(guest-probe ${CMAKE_CURRENT_LIST_DIR}/guest_probe.c)
set_target_properties(guest-probe PROPERTIES C_STANDARD 17 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
target_compile_definitions(guest-probe PRIVATE _GNU_SOURCE)
target_compile_options(guest-probe PRIVATE -O2 -Wall -Wextra -Werror -fno-sanitize=all)
target_link_options(guest-probe PRIVATE -static -no-pie -fno-sanitize=all)

bulkhead_test(test_vmmd_hotplug proc
	SOURCES ${CMAKE_CURRENT_LIST_DIR}/vmmd_hotplug.c ${CMAKE_CURRENT_LIST_DIR}/vmmd_plug.c
		${CMAKE_CURRENT_LIST_DIR}/vmmd_world.c ${CMAKE_CURRENT_LIST_DIR}/vmmd_proxy.c
		${CMAKE_CURRENT_LIST_DIR}/vmmd_rig.c ${CMAKE_CURRENT_LIST_DIR}/common_role.c
	LINK bulkhead_ipc bulkhead_test
	TIMEOUT 3600) # of 100 rounds; each of its tests has its own
add_dependencies(test_vmmd_hotplug bulkhead-vmmd bulkhead-slot guest-probe)
