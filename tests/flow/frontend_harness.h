/*
 * The real bulkhead-frontend with scripted neighbours: this process is the
 * supervisor, netd, mountd, vmmd, agentd, persistd, containerd's event service
 * and its clients, all in one poll loop. Every request is answered well unless
 * a rule says otherwise, and written down.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

#include "ipc/agentd.pb-c.h"
#include "ipc/ctl.h"
#include "ipc/tables.h"
#include "ipc/ttrpc.h"
#include "shim-frontend/proto/events.pb-c.h"
#include "shim-frontend/proto/task.pb-c.h"
#include "tests/lib/test.h"

#define TASK_PID 4242
#define SANDBOX  "s1"
#define BUNDLE   "/run/containerd/io.containerd.runtime.v2.task/ns1/s1"

/* What netd finds in the pod: none and that is all, one, or none but one may come: the next scan says. */
extern enum fx_links { FX_NONE, FX_LINK, FX_LATER_NONE, FX_LATER_LINK } fx_links;

enum peer_nr { P_CTL, P_NETD, P_MOUNTD, P_VMMD, P_AGENTD, P_PERSISTD, P_COUNT };

enum action {
	ACT_OK,
	ACT_FAIL,    /* an error with code and text */
	ACT_SILENT,  /* no answer; fx_answer_held() gives it later */
	ACT_DIE,     /* the peer closes its channel instead */
	ACT_GARBAGE, /* bytes that are no packet */
};

struct rule {
	const char *what; /* "mountd.add_container" */
	enum action action;
	int code;
	const char *text;
	int skip; /* the first so many are answered well */
};

#define RULES_MAX 8
#define HELD_MAX  2048

struct held {
	enum peer_nr peer;
	struct ipc_header hdr;
};

struct fx {
	int pid;
	int status;      /* of its end, once waited for */
	int fd[P_COUNT]; /* ours; -1: closed */
	int listener;
	char path[64];
	int log; /* datagrams */
	char trace[65536]; /* every request, in order: "netd.scan mountd.add_container ..." */
	char logs[262144];
	struct rule rules[RULES_MAX];
	unsigned n_rules;
	struct held held[HELD_MAX];
	unsigned n_held;
	uint32_t last_index, last_process; /* of CREATE_CONTAINER */
	char last_bundle[128];             /* of ADD_CONTAINER */
	uint32_t last_exec;                /* process of EXEC */
	size_t text_len;                   /* of all TEXT */
	uint32_t ports;                    /* of LAUNCH */
	uint32_t disks[32];                /* that ADD_CONTAINER answers with; odd ones are read-only */
	unsigned n_disks;
	bool pod;              /* and that */
	char disk_trace[4096]; /* "+2 -2 !2 ": plugged, taken away, forgotten by mountd */
	uint32_t max_vcpus, max_memory_mib; /* the same */
	int64_t created_with[3], limits[3]; /* quota, period, memory: what agentd says */
	uint32_t plugged_mib, plugged_cpus; /* of ADD_MEMORY, ADD_CPU */
	uint32_t online_vcpus, online_mib;  /* of the last ONLINE */
	const Ipc__AgentdProcessesReply *processes; /* what PROCESSES is answered with; NULL: none */
	uint32_t recorded;                 /* status of the last RECORD */
	unsigned n_records;
	const char *stdin_path; /* for fx_create() */
	bool kill_vm, stop;     /* CTL_KILL_VM, CTL_STOP came */
	bool no_kill;           /* a KILL_VM is not followed by QEMU's end */
	/* containerd's event service */
	int events;         /* ours; -1: none */
	bool events_silent; /* do not acknowledge */
	bool events_dead;   /* open_events fails */
	int event_code;     /* acknowledge with this code */
	char topics[65536]; /* "/tasks/create:c1 ..." as they came */
	unsigned n_events;
	uint8_t event_buf[1 << 18];
	size_t event_len;
	unsigned n_opens;
};

struct client {
	int fd;
	uint32_t stream;
	uint8_t *buf;
	size_t len, cap;
	bool closed;
};

/* What an answer was. */
struct answer {
	int code;
	char message[600];
	uint8_t payload[65536];
	size_t len;
};

void fx_rule(struct fx *fx, const char *what, enum action action, int code, const char *text);

/* options: further argv words, ends with NULL; NULL: none. Waits for READY, says LOCK. */
void fx_start(struct fx *fx, const char *const *options);
/* Without LOCK: the caller says something else. */
void fx_start_unlocked(struct fx *fx, const char *const *options);

/* Serves everybody for ms, or until *done (when not NULL) is set. */
void fx_pump(struct fx *fx, int ms, const bool *done);
/* Until text appears in the trace (or logs, topics), at most ms. */
bool fx_until(struct fx *fx, const char *where, const char *text, int ms);

/* Kills what is left, checks nothing. */
void fx_stop(struct fx *fx);
/* Waits for its end, serving; its exit status, or -1 when it still lives after ms. */
int fx_wait_exit(struct fx *fx, int ms);
/* Shutdown by RPC, with everything it must do. */
void fx_shutdown(struct fx *fx, struct client *c);

void fx_client(struct fx *fx, struct client *c);
void client_done(struct client *c);

/* Sends a request and does not wait. Its stream. */
uint32_t fx_send(struct client *c, const char *method, const ProtobufCMessage *msg);
uint32_t fx_send_raw(struct client *c, const char *service, const char *method,
	const uint8_t *payload, size_t len, int64_t timeout_nano);
void client_bytes(struct client *c, const void *data, size_t len);
/* Waits for the answer on a stream, serving. false: none within ms, or closed. */
bool fx_answer(struct fx *fx, struct client *c, uint32_t stream, struct answer *a, int ms);

/* One call, 10 s. The code. */
int fx_call(struct fx *fx, struct client *c, const char *method, const ProtobufCMessage *msg,
	struct answer *a);

int fx_create(struct fx *fx, struct client *c, const char *id, struct answer *a);
int fx_do_start(struct fx *fx, struct client *c, const char *id, struct answer *a);
int fx_kill(struct fx *fx, struct client *c, const char *id, uint32_t signal, struct answer *a);
int fx_delete(struct fx *fx, struct client *c, const char *id, struct answer *a);
/* About an exec of SANDBOX. */
int fx_exec(struct fx *fx, struct client *c, const char *eid, struct answer *a);
int fx_start_exec(struct fx *fx, struct client *c, const char *eid, struct answer *a);
int fx_delete_exec(struct fx *fx, struct client *c, const char *eid, struct answer *a);
/* CONTAINERD__STATUS__*, or -code */
int fx_state_exec(struct fx *fx, struct client *c, const char *eid);
/* Methods whose request is a container's id alone; none of the answer matters. */
uint32_t fx_send_id(struct client *c, const char *method, const char *id);
/* The status in `a` decoded: CONTAINERD__STATUS__*, or -code */
int fx_state(struct fx *fx, struct client *c, const char *id);
uint32_t fx_send_wait(struct client *c, const char *id, int64_t timeout_nano);

void fx_exited(struct fx *fx, uint32_t process, uint32_t status);
void fx_ctl(struct fx *fx, enum ctl_type type, enum role role, int status, const char *text);
void fx_vm_event(struct fx *fx, int kind, int status, const char *text);
void fx_answer_held(struct fx *fx);

int fx_count_fds(const struct fx *fx);
long fx_rss_kib(const struct fx *fx);
