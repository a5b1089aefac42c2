/* agentd's one struct, and what its files do for each other. README.md has the whole. */
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>

#include "agentd/agent_client.h"
#include "agentd/console.h"
#include "agentd/inbox.h"
#include "agentd/network.h"
#include "agentd/oci.h"
#include "agentd/process.h"
#include "agentd/texts.h"
#include "ipc/agentd.pb-c.h"
#include "ipc/channel.h"

/* What may be asked. One way, each state once. */
enum agentd_state {
	AGENTD_NEW = 1 << 0,	    /* CONNECT */
	AGENTD_CONNECTING = 1 << 1, /* waits for the hello, or it never came */
	AGENTD_CONNECTED = 1 << 2,  /* CREATE_SANDBOX */
	AGENTD_PREPARING = 1 << 3,  /* CREATE_SANDBOX is under way */
	AGENTD_READY = 1 << 4,	    /* containers */
};

enum container_state {
	CONTAINER_CREATING,
	CONTAINER_CREATED,
	CONTAINER_STARTING,
	CONTAINER_STARTED,
};

struct container {
	struct container *next;
	enum container_state state;
	uint32_t index;
	char *id;
	Ipc__Limits limits; /* of its config.json */
	struct process *init;
	struct process *execs;
	unsigned n_execs;
};

/* A question of the frontend that is not answered yet. */
struct request {
	struct request *next;
	struct agentd *agentd;
	uint16_t type;
	uint32_t seq;
	uint32_t index; /* of the container it is about; looked up again when the agent answers */
	uint32_t process;
	bool queued; /* START_EXEC: waits until others have started */
};

#define REQUESTS_MAX   1024
#define CONTAINERS_MAX 256
#define EXECS_MAX      256 /* of one container, those that have ended included */

struct agentd {
	struct event_base *base;
	const char *sandbox; /* id */
	unsigned cid;	     /* of the guest; 0: its agent is not reached by vsock */
	enum agentd_state state;
	bool ending;
	int status; /* to exit with */

	struct event ctl, frontend, mountd, vmmd;
	struct inbox inbox;
	struct texts texts;
	struct console console;

	struct agent_client *agent; /* NULL until its stream has come */
	bool hello;
	struct request *connect; /* waits for the hello */
	uint32_t connect_timeout_ms;
	struct event connect_timer;

	struct network network;
	bool network_under_way;

	struct oci_spec first; /* of the first container: read early, for the hostname */
	uint32_t first_index;

	struct request *requests;
	unsigned n_requests;
	unsigned n_starting; /* exec'd processes that the agent is starting */
	struct event oom_timer;
	int64_t oom_at_us; /* the last news of it */
	struct container *containers;
	unsigned n_containers;
};

/* agentd.c: the loop, the channels, the end */

int agentd_init(struct agentd *a, const char *sandbox, unsigned cid, struct error *err);
void agentd_done(struct agentd *a);

/* Until the frontend or the supervisor goes away (0) or a peer breaks the protocol. */
int agentd_run(struct agentd *a);

/* Leaves the loop: a peer is gone (err NULL), or has broken the protocol. */
void agentd_end(struct agentd *a, const struct error *err);

/* Reads what the two producers have sent; -errno with err: a peer is lost. */
int agentd_drain_mountd(struct agentd *a, struct error *err);
int agentd_drain_vmmd(struct agentd *a, struct error *err);

/* Sends news to the frontend. */
void agentd_tell(struct agentd *a, uint16_t type, const ProtobufCMessage *event);

/* handlers.c: the verbs */

/* Answers it now or later. -errno with err: the frontend has broken the protocol. */
int agentd_handle(struct agentd *a, const struct ipc_packet *p, struct error *err);

extern const struct agent_ops agentd_agent_ops;

void agentd_drop_all(struct agentd *a);
