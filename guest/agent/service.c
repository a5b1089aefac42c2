/* Everything the agent answers. Any other request is Unimplemented. */
#include "agent.pb-c.h"
#include "bulkhead.pb-c.h"
#include "container.h"
#include "network.h"
#include "rpc.h"
#include "sandbox.h"

#define AGENT  "grpc.AgentService"
#define HEALTH "grpc.Health"
#define OURS   "bulkhead.AgentService"

const struct rpc_method rpc_methods[] = {
	{ AGENT, "CreateSandbox", &grpc__create_sandbox_request__descriptor, create_sandbox },
	{ AGENT, "DestroySandbox", &grpc__destroy_sandbox_request__descriptor, destroy_sandbox },
	{ AGENT, "GetGuestDetails", &grpc__guest_details_request__descriptor, get_guest_details },
	{ AGENT, "OnlineCPUMem", &grpc__online_cpumem_request__descriptor, online_cpu_mem },

	{ AGENT, "UpdateInterface", &grpc__update_interface_request__descriptor, update_interface },
	{ AGENT, "UpdateRoutes", &grpc__update_routes_request__descriptor, update_routes },
	{ AGENT, "AddARPNeighbors", &grpc__add_arpneighbors_request__descriptor,
	        add_arp_neighbors },
	{ AGENT, "ListInterfaces", &grpc__list_interfaces_request__descriptor, list_interfaces },
	{ AGENT, "ListRoutes", &grpc__list_routes_request__descriptor, list_routes },

	{ AGENT, "CreateContainer", &grpc__create_container_request__descriptor, create_container },
	{ AGENT, "StartContainer", &grpc__start_container_request__descriptor, start_container },
	{ AGENT, "RemoveContainer", &grpc__remove_container_request__descriptor, remove_container },
	{ AGENT, "UpdateContainer", &grpc__update_container_request__descriptor, update_container },
	{ AGENT, "PauseContainer", &grpc__pause_container_request__descriptor, pause_container },
	{ AGENT, "ResumeContainer", &grpc__resume_container_request__descriptor, resume_container },
	{ AGENT, "StatsContainer", &grpc__stats_container_request__descriptor, stats_container },
	{ AGENT, "GetOOMEvent", &grpc__get_oomevent_request__descriptor, get_oom_event },

	{ AGENT, "ExecProcess", &grpc__exec_process_request__descriptor, exec_process },
	{ AGENT, "SignalProcess", &grpc__signal_process_request__descriptor, signal_process },
	{ AGENT, "WaitProcess", &grpc__wait_process_request__descriptor, wait_process },
	{ AGENT, "ReadStdout", &grpc__read_stream_request__descriptor, read_stdout },
	{ AGENT, "ReadStderr", &grpc__read_stream_request__descriptor, read_stderr },
	{ AGENT, "WriteStdin", &grpc__write_stream_request__descriptor, write_stdin },
	{ AGENT, "CloseStdin", &grpc__close_stdin_request__descriptor, close_stdin },
	{ AGENT, "TtyWinResize", &grpc__tty_win_resize_request__descriptor, tty_win_resize },

	{ HEALTH, "Check", &grpc__check_request__descriptor, health_check },
	{ HEALTH, "Version", &grpc__check_request__descriptor, health_version },

	{ OURS, "ListProcesses", &bulkhead__list_processes_request__descriptor, list_processes },
};

const size_t rpc_method_count = ARRAY_SIZE(rpc_methods);
