foreach(part cmdline net qmp)
	bulkhead_test(test_vmmd_${part} unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/vmmd_${part}.c
		LINK vmmd_core bulkhead_test)
endforeach()

# Those with a QEMU of a script.
foreach(part script life nomem dial)
	bulkhead_test(test_vmmd_${part} unit
		SOURCES ${CMAKE_CURRENT_LIST_DIR}/vmmd_${part}.c
			${CMAKE_CURRENT_LIST_DIR}/vmmd_scripted.c
		LINK vmmd_core bulkhead_test
		TIMEOUT 300)
endforeach()
foreach(name malloc calloc realloc strdup asprintf open_memstream json_object_new_object
		json_object_new_string json_object_new_uint64 json_object_new_boolean
		json_object_object_add json_object_to_json_string_ext
		json_object_to_json_string_length json_tokener_new_ex)
	target_link_options(test_vmmd_nomem PRIVATE -Wl,--wrap=${name})
endforeach()
foreach(name connect getsockopt)
	target_link_options(test_vmmd_dial PRIVATE -Wl,--wrap=${name})
endforeach()
