/*
 * The pod's network in the guest: links are found by MAC address and made what the host's are, by
 * netlink. Nothing here waits for longer than the kernel takes.
 */
#pragma once

#include "rpc.h"

rpc_handler update_interface, update_routes, add_arp_neighbors;
rpc_handler list_interfaces, list_routes;
