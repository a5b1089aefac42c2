/* The protocol's OCI messages as the JSON that crun reads. */
#pragma once

#include <json-c/json.h>

#include "oci.pb-c.h"

/*
 * config.json of a container. What belongs to the guest is set here and not taken from the message:
 * the namespaces (pid_ns is the path of one to join, or NULL for a new one) and the cgroup. LSM
 * labels name policies of the host and are left out.
 */
struct json_object *oci_json_config(const Grpc__Spec *spec, const char *pid_ns, const char *cgroup);

/* The argument of crun exec --process. */
struct json_object *oci_json_process(const Grpc__Process *process);

/* The argument of crun update --resources. */
struct json_object *oci_json_resources(const Grpc__LinuxResources *resources);
