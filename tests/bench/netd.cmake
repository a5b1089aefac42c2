set(proc ${CMAKE_SOURCE_DIR}/tests/proc)
add_executable(netd_bench ${CMAKE_CURRENT_SOURCE_DIR}/netd_bench.c ${proc}/netd_rig.c ${proc}/common_role.c)
target_link_libraries(netd_bench PRIVATE bulkhead_test bulkhead_ipc)
