bulkhead_test(test_agentd_oci unit SOURCES test_agentd_oci.c LINK bulkhead_test agentd_core)
target_compile_definitions(test_agentd_oci PRIVATE
	AGENTD_DATA="${CMAKE_CURRENT_SOURCE_DIR}/data/agentd")
bulkhead_test(test_agentd_devices unit SOURCES test_agentd_devices.c LINK bulkhead_test agentd_core)
bulkhead_test(test_agentd_console unit SOURCES test_agentd_console.c LINK bulkhead_test agentd_core)
