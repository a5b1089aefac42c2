#include "agentd/agentd.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/log.h"
#include "ipc/ctl.h"
#include "ipc/fds.h"
#include "ipc/role.h"
#include "ipc/tables.h"

#define PACKETS_PER_TURN 64

void agentd_end(struct agentd *a, const struct error *err)
{
	if (a->ending)
		return;
	a->ending = true;
	a->status = err ? ROLE_EXIT_FAILED : 0;
	if (err)
		log_error("%s", err->msg);
	event_base_loopbreak(a->base);
}

void agentd_tell(struct agentd *a, uint16_t type, const ProtobufCMessage *event)
{
	struct error err = ERROR_INIT;
	int r;

	if (a->ending)
		return;
	r = channel_send(AGENTD_FD_FRONTEND, &ipc_frontend_agentd, IPC_EVENT, type, 0, event, NULL,
		0, IPC_SEND_TIMEOUT_MS, &err);
	if (r < 0)
		agentd_end(a, r == -EPIPE ? NULL : &err);
}

/* -- the supervisor */

static void on_ctl(evutil_socket_t fd, short events, void *arg)
{
	struct agentd *a = arg;
	struct error err = ERROR_INIT;
	struct ctl_msg msg;
	int r = ctl_recv(FD_CTL, MSG_DONTWAIT, &msg);

	(void)fd;
	(void)events;
	if (r == -EAGAIN)
		return;
	if (r > 0)
		error_set(&err, EPROTO, "control message %u, which is not for agentd", msg.type);
	else if (r < 0)
		error_errno(&err, -r, "control channel");
	agentd_end(a, r == 0 ? NULL : &err);
}

/* -- mountd and vmmd: they bring fds, unasked */

/* Reads until there is nothing left. A producer that is gone is the supervisor's business. */
static int drain(struct agentd *a, struct event *ev,
	int (*recv_one)(struct agentd *a, struct error *err), struct error *err)
{
	int r = event_initialized(ev) ? 1 : 0;

	while (r > 0)
		r = recv_one(a, err);
	if (r == 0 && event_initialized(ev)) {
		event_del(ev);
		*ev = (struct event){ .ev_fd = -1 };
	}
	return r == -EAGAIN ? 0 : r;
}

static int recv_mountd(struct agentd *a, struct error *err)
{
	return inbox_recv(&a->inbox, AGENTD_FD_MOUNTD, err);
}

int agentd_drain_mountd(struct agentd *a, struct error *err)
{
	return drain(a, &a->mountd, recv_mountd, err);
}

static int take_stream(struct agentd *a, struct ipc_packet *p, struct error *err)
{
	unsigned cid = fd_vsock_peer(p->fds.fd[0]);

	if (a->agent)
		return error_set(err, EPROTO, "the agent stream came twice");
	if (cid != a->cid)
		return error_set(err, EPROTO, "the agent stream leads to CID %u, the guest's is %u (0: no vsock)",
			cid, a->cid);
	a->agent = agent_client_new(a->base, fdlist_steal(&p->fds, 0), &agentd_agent_ops, a);
	return a->agent ? 1 : error_errno(err, ENOMEM, "agent stream");
}

static int take_console(struct agentd *a, struct ipc_packet *p, struct error *err)
{
	if (a->console.fd >= 0)
		return error_set(err, EPROTO, "the console came twice");
	console_open(&a->console, a->base, fdlist_steal(&p->fds, 0));
	return 1;
}

static int recv_vmmd(struct agentd *a, struct error *err)
{
	CLEANUP(ipc_packet_done) struct ipc_packet p = { .fds = FDLIST_INIT };
	ProtobufCMessage *msg;
	int r = channel_recv(AGENTD_FD_VMMD, &ipc_vmmd_agentd, MSG_DONTWAIT, &p, err);

	if (r <= 0)
		return r;
	msg = ipc_decode(&p, err);
	if (!msg)
		return -EPROTO;
	ipc_free(msg);
	return p.hdr.type == VMMD_AGENTD_STREAM ? take_stream(a, &p, err) :
						  take_console(a, &p, err);
}

int agentd_drain_vmmd(struct agentd *a, struct error *err)
{
	return drain(a, &a->vmmd, recv_vmmd, err);
}

static void on_mountd(evutil_socket_t fd, short events, void *arg)
{
	struct error err = ERROR_INIT;

	(void)fd;
	(void)events;
	if (agentd_drain_mountd(arg, &err) < 0)
		agentd_end(arg, &err);
}

static void on_vmmd(evutil_socket_t fd, short events, void *arg)
{
	struct error err = ERROR_INIT;

	(void)fd;
	(void)events;
	if (agentd_drain_vmmd(arg, &err) < 0)
		agentd_end(arg, &err);
}

/* -- the frontend: it asks */

static void on_frontend(evutil_socket_t fd, short events, void *arg)
{
	struct agentd *a = arg;
	struct error err = ERROR_INIT;
	int r = 1;

	(void)fd;
	(void)events;
	for (int i = 0; r > 0 && !a->ending && i < PACKETS_PER_TURN; i++) {
		CLEANUP(ipc_packet_done) struct ipc_packet p = { .fds = FDLIST_INIT };

		r = channel_recv(AGENTD_FD_FRONTEND, &ipc_frontend_agentd, MSG_DONTWAIT, &p, &err);
		if (r > 0 && agentd_handle(a, &p, &err) < 0)
			r = -EPROTO;
	}
	if (r == 0)
		agentd_end(a, NULL);
	else if (r < 0 && r != -EAGAIN)
		agentd_end(a, &err);
}

/* -- life */

static int watch(struct agentd *a, struct event *ev, int fd, event_callback_fn fn,
	struct error *err)
{
	if (event_assign(ev, a->base, fd, EV_READ | EV_PERSIST, fn, a) < 0 ||
		event_add(ev, NULL) < 0)
		return error_set(err, EIO, "watch fd %d", fd);
	return 0;
}

/* epoll and nothing else, without a look at the environment. */
static struct event_base *base_new(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (config && event_config_avoid_method(config, "select") == 0 &&
		event_config_avoid_method(config, "poll") == 0 &&
		event_config_set_flag(config,
			EVENT_BASE_FLAG_IGNORE_ENV | EVENT_BASE_FLAG_NOLOCK) == 0)
		base = event_base_new_with_config(config);
	if (config)
		event_config_free(config);
	return base;
}

int agentd_init(struct agentd *a, const char *sandbox, unsigned cid, struct error *err)
{
	*a = (struct agentd){
		.sandbox = sandbox,
		.cid = cid,
		.state = AGENTD_NEW,
		.inbox = INBOX_INIT,
		.console = CONSOLE_INIT,
		.first = OCI_SPEC_INIT,
	};
	a->base = base_new();
	if (!a->base)
		return error_set(err, EIO, "libevent has no epoll base");
	return 0;
}

int agentd_run(struct agentd *a)
{
	struct error err = ERROR_INIT;

	if (watch(a, &a->ctl, FD_CTL, on_ctl, &err) < 0 ||
		watch(a, &a->frontend, AGENTD_FD_FRONTEND, on_frontend, &err) < 0 ||
		watch(a, &a->mountd, AGENTD_FD_MOUNTD, on_mountd, &err) < 0 ||
		watch(a, &a->vmmd, AGENTD_FD_VMMD, on_vmmd, &err) < 0) {
		log_error("%s", err.msg);
		return ROLE_EXIT_FAILED;
	}
	event_base_dispatch(a->base);
	return a->ending ? a->status : ROLE_EXIT_FAILED;
}

void agentd_done(struct agentd *a)
{
	/* No callback from here on tells anybody anything. */
	a->ending = true;
	agentd_drop_all(a);
	agent_client_free(a->agent);
	console_done(&a->console);
	inbox_done(&a->inbox);
	texts_done(&a->texts);
	oci_spec_done(&a->first);
	network_done(&a->network);
	if (a->base)
		event_base_free(a->base);
}
