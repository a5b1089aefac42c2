add_executable(ttrpc_bench ${CMAKE_CURRENT_SOURCE_DIR}/ttrpc_bench.c)
target_link_libraries(ttrpc_bench PRIVATE bulkhead_flags)
add_executable(frontend_bench ${CMAKE_CURRENT_SOURCE_DIR}/frontend_bench.c)
target_link_libraries(frontend_bench PRIVATE frontend_harness)
