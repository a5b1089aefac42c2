#include "shim-frontend/frontend.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "ipc/agentd.pb-c.h"
#include "ipc/fds.h"
#include "ipc/role.h"

#define AGENTD_IN_FLIGHT_MAX 1024

int64_t realtime_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int frontend_ms(const struct frontend *fe, int ms)
{
	return ms < fe->settings.call_timeout_max_ms ? ms : fe->settings.call_timeout_max_ms;
}

void frontend_fatal(struct frontend *fe, const struct error *err)
{
	log_error("the sandbox is over: %s", err->msg);
	create_fatal(fe, err);
	server_fail_all(&fe->server, err);
	server_flush(&fe->server);
	_exit(ROLE_EXIT_FAILED);
}

static void peer_lost(void *ctx, const struct peer *peer, const struct error *err)
{
	struct error said = *err;

	if (said.code == EPROTO)
		said.code = EPIPE; /* to containerd: Unavailable */
	(void)peer;
	frontend_fatal(ctx, &said);
}

static void exited(struct frontend *fe, const Ipc__AgentdExited *e)
{
	struct process *p = table_find_process(&fe->table, e->process);

	if (p)
		exit_seen(fe, p, e->status & 0xff, e->exited_at_ns);
	else
		log_debug("process %u has exited, and is gone", e->process);
}

static void out_of_memory(struct frontend *fe, const Ipc__AgentdOom *e)
{
	struct container *c = table_find_index(&fe->table, e->index);

	if (c && c->init.state != PROCESS_CREATING && !c->init.exit.told)
		oom_seen(fe, c);
}

static void agentd_event(void *ctx, uint16_t type, const ProtobufCMessage *event)
{
	struct frontend *fe = ctx;
	char why[300];

	switch (type) {
	case AGENTD_LOST:
		snprintf(why, sizeof(why), "the guest's agent is lost: %.250s",
			((const Ipc__AgentdLost *)event)->reason);
		vm_kill(fe, why);
		break;
	case AGENTD_OOM:
		out_of_memory(fe, (const Ipc__AgentdOom *)event);
		break;
	default:
		exited(fe, (const Ipc__AgentdExited *)event);
		break;
	}
}

/* One message. False: there is none, or the sandbox is over. */
static bool hear_supervisor(struct frontend *fe)
{
	struct ctl_msg msg;
	int r = ctl_recv(FD_CTL, MSG_DONTWAIT, &msg);

	if (r == -EAGAIN)
		return false;
	if (r > 0 && (msg.type == CTL_CHILD_EXIT || msg.type == CTL_OOM)) {
		vm_on_ctl(fe, &msg);
		return true;
	}
	if (r > 0)
		log_error("control message %u, which is not for the frontend", msg.type);
	else if (r < 0)
		log_error("control channel: %s", strerrordesc_np(-r));
	else
		log_error("the supervisor is gone"); /* its end is everybody's */
	fe->exit_status = r == 0 ? 0 : ROLE_EXIT_FAILED;
	loop_stop(fe->loop);
	return false;
}

static void ctl_ready(void *ctx)
{
	hear_supervisor(ctx);
}

/* Of QEMU's end the supervisor tells vmmd last: what it has told us comes first. */
static void vmmd_event(void *ctx, uint16_t type, const ProtobufCMessage *event)
{
	while (hear_supervisor(ctx))
		;
	vm_on_event(ctx, type, event);
}

static int init_peers(struct frontend *fe, struct error *err)
{
	const struct {
		struct peer *peer;
		int fd;
		struct peer_config config;
	} peers[] = {
#define PEER(who, number, most, on_event)                                        \
	{                                                                        \
		&fe->who, number,                                                \
		{                                                                \
#who, &ipc_frontend_##who, most, on_event, peer_lost, fe \
		}                                                                \
	}
		PEER(netd, FRONTEND_FD_NETD, 1, NULL),
		PEER(mountd, FRONTEND_FD_MOUNTD, 1, NULL),
		PEER(vmmd, FRONTEND_FD_VMMD, 1, vmmd_event),
		PEER(agentd, FRONTEND_FD_AGENTD, AGENTD_IN_FLIGHT_MAX, agentd_event),
		PEER(persistd, FRONTEND_FD_PERSISTD, 1, NULL),
#undef PEER
	};

	for (size_t i = 0; i < ARRAY_SIZE(peers); i++) {
		/* A sandbox that could not be started asks nobody, and its roles may be gone. */
		int fd = fe->broken.code ? -1 : peers[i].fd;

		if (peer_init(peers[i].peer, fe->loop, fd, &peers[i].config, err) < 0)
			return error_wrap(err, "%s", peers[i].config.name);
	}
	return 0;
}

int frontend_init(struct frontend *fe, const struct settings *settings, struct loop *loop,
	const struct error *broken, struct error *err)
{
	int r;

	*fe = (struct frontend){ .settings = *settings, .loop = loop };
	if (broken)
		fe->broken = *broken;
	fe->exit_status = ROLE_EXIT_FAILED;
	fe->queue_last = &fe->queue;
	vm_init(fe);
	fe->growth.online = true; /* nothing is plugged */
	events_init(&fe->events, loop, FRONTEND_FD_EVENTS, &fe->mountd, settings->namespace);
	r = init_peers(fe, err);
	if (r == 0)
		r = watch_init(&fe->ctl, loop, FD_CTL, ctl_ready, NULL, fe, err);
	log_info("sandbox %s in %s: the task pid is %u", settings->id, settings->bundle,
		settings->task_pid);
	if (r == 0)
		r = server_start(&fe->server, loop, FRONTEND_FD_LISTENER, &task_service, fe,
			settings->frame_timeout_ms, err);
	return r;
}

void frontend_done(struct frontend *fe)
{
	server_done(&fe->server);
	events_done(&fe->events);
	watch_done(&fe->ctl);
	peer_done(&fe->netd);
	peer_done(&fe->mountd);
	peer_done(&fe->vmmd);
	peer_done(&fe->agentd);
	peer_done(&fe->persistd);
	vm_done(fe);
	network_done(&fe->network);
	timer_done(&fe->shutdown_timer);
}
