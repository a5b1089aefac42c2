/* The frontend with a helper that has been taken over: its answers, and what nobody asked for. */
#include <errno.h>

#include "common/fd.h"
#include "ipc/agentd.pb-c.h"
#include "ipc/fds.h"
#include "ipc/netd.pb-c.h"
#include "tests/flow/frontend_harness.h"
#include "tests/proc/hostile.h"
#include "tests/proc/hostile_ctl.h"

static struct fx fx;
static struct client c;
static struct answer a;
static uint32_t pending; /* the call of containerd that waits; 0: none */

/* ---- the frontend asks one helper one thing ---- */

static void begin(const char *what)
{
	memset(&fx, 0, sizeof(fx));
	pending = 0;
	if (what)
		fx_rule(&fx, what, ACT_SILENT, 0, NULL);
	/* vmmd is asked to connect by vsock alone. */
	fx_start(&fx, (const char *const[]){ "max_vcpus=3", "max_memory_mib=512",
			      what && strcmp(what, "vmmd.connect") == 0 ? "vsock=1" : NULL, NULL });
	fx_client(&fx, &c);
}

static uint32_t send_create(const char *id)
{
	Containerd__CreateTaskRequest r = CONTAINERD__CREATE_TASK_REQUEST__INIT;

	r.id = (char *)id;
	r.bundle = (char *)"/bundles/c2";
	return fx_send(&c, "Create", &r.base);
}

static uint32_t send_start(void)
{
	Containerd__StartRequest r = CONTAINERD__START_REQUEST__INIT;

	r.id = (char *)SANDBOX;
	return fx_send(&c, "Start", &r.base);
}

static uint32_t send_kill(void)
{
	Containerd__KillRequest r = CONTAINERD__KILL_REQUEST__INIT;

	r.id = (char *)SANDBOX;
	r.signal = 15;
	return fx_send(&c, "Kill", &r.base);
}

static uint32_t send_close_io(void)
{
	Containerd__CloseIORequest r = CONTAINERD__CLOSE_IOREQUEST__INIT;

	r.id = (char *)SANDBOX;
	r.stdin = 1;
	return fx_send(&c, "CloseIO", &r.base);
}

static uint32_t send_delete(void)
{
	Containerd__DeleteRequest r = CONTAINERD__DELETE_REQUEST__INIT;

	r.id = (char *)SANDBOX;
	return fx_send(&c, "Delete", &r.base);
}

static void create(void)
{
	fx.stdin_path = "/run/fifo/in";
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
}

static void run(void)
{
	create();
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), 0);
}

static void run_and_exit(void)
{
	run();
	fx_exited(&fx, fx.last_process, 0);
}

static void run_and_exit_and_delete(void)
{
	run_and_exit();
	CHECK(fx_until(&fx, fx.trace, "persistd.record", 2000));
	pending = send_delete();
}

static void run_out_of_memory(void)
{
	Ipc__AgentdOom oom = IPC__AGENTD_OOM__INIT;
	struct error err = ERROR_INIT;

	run();
	oom.index = fx.last_index;
	CHECK_INT(channel_send(fx.fd[P_AGENTD], &ipc_frontend_agentd, IPC_EVENT, AGENTD_OOM, 0,
			  &oom.base, NULL, 0, 1000, &err), 0);
}

/* containerd was restarted: mountd is asked for a connection when there is something to tell. */
static void run_without_containerd(void)
{
	create();
	CHECK(fx_until(&fx, fx.topics, "create:" SANDBOX, 2000));
	fd_close(&fx.events);
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), 0);
}

static void create_another(void)
{
	create();
	pending = send_create("c2");
}

static void create_in_vain(void)
{
	fx_rule(&fx, "agentd.connect", ACT_FAIL, EIO, "no");
	pending = send_create(SANDBOX);
}

static void start_to_create(void)
{
	pending = send_create(SANDBOX);
}

static void start_to_start(void)
{
	create();
	pending = send_start();
}

static void start_to_kill(void)
{
	run();
	pending = send_kill();
}

static void start_to_close(void)
{
	run();
	pending = send_close_io();
}

static void start_to_exec(void)
{
	Containerd__ExecProcessRequest r = CONTAINERD__EXEC_PROCESS_REQUEST__INIT;
	Containerd__Any spec = CONTAINERD__ANY__INIT;

	run();
	spec.value.data = (uint8_t *)(char[]){ "{}" };
	spec.value.len = 2;
	r.id = (char *)SANDBOX;
	r.exec_id = (char *)"e";
	r.spec = &spec;
	pending = fx_send(&c, "Exec", &r.base);
}

static void exec_in_vain(void)
{
	fx_rule(&fx, "agentd.exec", ACT_FAIL, EINVAL, "no");
	start_to_exec();
}

static void exec_to_start(void)
{
	Containerd__StartRequest r = CONTAINERD__START_REQUEST__INIT;

	run();
	CHECK_INT(fx_exec(&fx, &c, "e", &a), 0);
	r.id = (char *)SANDBOX;
	r.exec_id = (char *)"e";
	pending = fx_send(&c, "Start", &r.base);
}

static void start_to_resize(void)
{
	Containerd__CreateTaskRequest create_ = CONTAINERD__CREATE_TASK_REQUEST__INIT;
	Containerd__ResizePtyRequest r = CONTAINERD__RESIZE_PTY_REQUEST__INIT;

	create_.id = (char *)SANDBOX;
	create_.bundle = (char *)BUNDLE;
	create_.terminal = true;
	CHECK_INT(fx_call(&fx, &c, "Create", &create_.base, &a), 0);
	r.id = (char *)SANDBOX;
	r.width = r.height = 10;
	pending = fx_send(&c, "ResizePty", &r.base);
}

static void start_to_pause(void)
{
	run();
	pending = fx_send_id(&c, "Pause", SANDBOX);
}

static void start_to_resume(void)
{
	run();
	CHECK(fx_answer(&fx, &c, fx_send_id(&c, "Pause", SANDBOX), &a, 5000));
	pending = fx_send_id(&c, "Resume", SANDBOX);
}

static void start_to_stats(void)
{
	run();
	pending = fx_send_id(&c, "Stats", SANDBOX);
}

static void start_to_pids(void)
{
	run();
	pending = fx_send_id(&c, "Pids", SANDBOX);
}

static void start_to_update(void)
{
	Containerd__UpdateTaskRequest r = CONTAINERD__UPDATE_TASK_REQUEST__INIT;
	Containerd__Any resources = CONTAINERD__ANY__INIT;

	run();
	resources.value.data = (uint8_t *)(char[]){ "{}" };
	resources.value.len = 2;
	r.id = (char *)SANDBOX;
	r.resources = &resources;
	pending = fx_send(&c, "Update", &r.base);
}

/* More than the VM has. */
static void start_to_grow(void)
{
	fx.limits[0] = 300000;
	fx.limits[2] = 400LL << 20;
	start_to_update();
}

/* How each question comes about; the others in a Create. */
static const struct {
	const char *what;
	void (*run)(void);
} roads[] = {
	{ "vmmd.stop", create_in_vain },
	{ "vmmd.vm_event", run },
	{ "vmmd.add_nic", start_to_start },
	{ "vmmd.remove", run_and_exit_and_delete },
	{ "agentd.start", start_to_start },
	{ "agentd.signal", start_to_kill },
	{ "agentd.close_stdin", start_to_close },
	{ "agentd.remove", run_and_exit_and_delete },
	{ "agentd.text", exec_in_vain },
	{ "agentd.exec", start_to_exec },
	{ "agentd.remove_exec", exec_in_vain },
	{ "agentd.start_exec", exec_to_start },
	{ "agentd.resize", start_to_resize },
	{ "agentd.pause", start_to_pause },
	{ "agentd.resume", start_to_resume },
	{ "agentd.update", start_to_update },
	{ "agentd.limits", start_to_update },
	{ "agentd.online", start_to_grow },
	{ "vmmd.add_memory", start_to_grow },
	{ "vmmd.add_cpu", start_to_grow },
	{ "agentd.stats", start_to_stats },
	{ "agentd.processes", start_to_pids },
	{ "agentd.oom", run },
	{ "agentd.exited", run },
	{ "agentd.lost", run },
	{ "mountd.remove_container", run_and_exit_and_delete },
	{ "mountd.open_events", run_without_containerd },
	{ "mountd.mark_oom", run_out_of_memory },
	{ "persistd.record", run_and_exit },
	{ "persistd.forget", create_another },
};

static const char *const names[P_COUNT] = {
	[P_NETD] = "netd", [P_MOUNTD] = "mountd", [P_VMMD] = "vmmd",
	[P_AGENTD] = "agentd", [P_PERSISTD] = "persistd",
};

static void as_end(enum peer_nr p, struct hostile_end *ret)
{
	size_t n = 0;

	*ret = (struct hostile_end){
		.pid = fx.pid,
		.fd = fx.fd[p],
		.number = FRONTEND_FD_NETD + (int)p - P_NETD,
		.log = fx.log,
		.seq = fx.n_held ? fx.held[fx.n_held - 1].hdr.seq : 0,
	};
	for (int i = 0; i < P_COUNT; i++)
		if (i != (int)p)
			ret->others[n++] = fx.fd[i];
}

/* What the pod must have for this question to be asked. */
static enum fx_links links_for(const char *what)
{
	static const char *const at_create[] = { "netd.part", "netd.attach", "netd.done",
		"agentd.network" };

	for (size_t i = 0; i < ARRAY_SIZE(at_create); i++)
		if (strcmp(what, at_create[i]) == 0)
			return FX_LINK;
	return strcmp(what, "vmmd.add_nic") == 0 ? FX_LATER_LINK : FX_NONE;
}

/* And whether it has a disk. */
static bool with_a_disk(const char *what)
{
	return strstr(what, "add_block") || strcmp(what, "vmmd.remove") == 0;
}

static void up(enum peer_nr p, const struct ipc_message *row, struct hostile_end *ret)
{
	void (*run_to)(void) = start_to_create;
	static char what[64]; /* the harness keeps its rules by name, longer than this call */

	snprintf(what, sizeof(what), "%s.%s", names[p], row->name);
	fx_links = links_for(what);
	for (size_t i = 0; i < ARRAY_SIZE(roads); i++)
		if (strcmp(roads[i].what, what) == 0)
			run_to = roads[i].run;
	begin(what);
	fx.disks[0] = 1;
	fx.n_disks = with_a_disk(what);
	run_to();
	if (row->reply && !fx_until(&fx, fx.trace, what, 5000))
		test_fail(__FILE__, __LINE__, "%s is not asked: %s", what, fx.trace);
	fx_pump(&fx, 5, NULL); /* whatever else there was to say */
	as_end(p, ret);
}

static void up_netd(const struct ipc_message *row, struct hostile_end *ret) { up(P_NETD, row, ret); }
static void up_mountd(const struct ipc_message *row, struct hostile_end *ret) { up(P_MOUNTD, row, ret); }
static void up_vmmd(const struct ipc_message *row, struct hostile_end *ret) { up(P_VMMD, row, ret); }
static void up_agentd(const struct ipc_message *row, struct hostile_end *ret) { up(P_AGENTD, row, ret); }
static void up_persistd(const struct ipc_message *row, struct hostile_end *ret) { up(P_PERSISTD, row, ret); }

static void down(bool ended)
{
	if (ended)
		fx.status = 0;
	client_done(&c);
	fx_stop(&fx);
}

/* containerd is told, once, that there is nobody any more. */
static void containerd_is_told(const struct ipc_message *row)
{
	if (!pending)
		return;
	CHECK(fx_answer(&fx, &c, pending, &a, 2000));
	/* Numbers that are wrong are numbers: it was answered before its peer was lost. */
	CHECK(a.code != 0 || row->type == AGENTD_STATS || row->type == AGENTD_LIMITS ||
		row->type == AGENTD_PROCESSES || row->type == AGENTD_CREATE_CONTAINER);
	CHECK(!fx_answer(&fx, &c, pending, &a, 0));
}

#define TARGET(peer, more, ...)                                                        \
	static const struct hostile_target peer = {                               \
		.name = #peer " -> frontend", .channel = &ipc_frontend_##peer,    \
		.events = more, .up = up_##peer, .down = down,                    \
		.after = containerd_is_told, __VA_ARGS__                          \
	};                                                                        \
	HOSTILE_TESTS(peer, peer)

/* The one link that the scan has counted. */
static void the_first_link(const struct ipc_message *row, ProtobufCMessage *msg)
{
	if (row->type == NETD_PART)
		((Ipc__NetdPartReply *)msg)->part->links[0]->index = 0;
}

/* Pause and Resume are the agent's. */
static bool never_asked_of_vmmd(const struct ipc_message *row)
{
	return row->type == VMMD_PAUSE || row->type == VMMD_RESUME;
}

TARGET(netd, false, .adjust = the_first_link)
TARGET(mountd, false)
TARGET(vmmd, true, .never_asked = never_asked_of_vmmd)
TARGET(agentd, true)
TARGET(persistd, false)

static const struct hostile_target *const targets[] = { &netd, &mountd, &vmmd, &agentd, &persistd };

/* ---- A7: answers that are one too many ---- */

#define NOT_ASKED "which was not asked"

TEST(the_same_answer_twice)
{
	static struct hostile_packet p;

	for (size_t i = 0; i < ARRAY_SIZE(targets); i++)
		for (size_t k = 0; k < targets[i]->channel->n_messages; k++) {
			const struct ipc_message *row = &targets[i]->channel->messages[k];
			struct hostile_end end;

			if (!row->reply || !hostile_may_send(targets[i], row))
				continue;
			targets[i]->up(row, &end);
			hostile_good(targets[i], row, end.seq, &p);
			hostile_send(end.fd, &p);
			hostile_send(end.fd, &p);
			hostile_packet_done(&p);
			hostile_expect_lost(&end, row->name, row->name, NOT_ASKED, false);
			down(true);
		}
}

TEST(an_answer_to_nothing)
{
	static struct hostile_packet p;

	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		const struct ipc_message *row = &targets[i]->channel->messages[0];
		struct hostile_end end;

		begin(NULL);
		fx_state(&fx, &c, SANDBOX);
		as_end((enum peer_nr)(P_NETD + i), &end);
		hostile_good(targets[i], row, 1, &p);
		hostile_send(end.fd, &p);
		hostile_packet_done(&p);
		hostile_expect_lost(&end, row->name, row->name, NOT_ASKED, true);
		down(true);
	}
}

/* ---- A11: news without end ---- */

/* Of processes that never were: nobody is told, nothing is kept, others are served. */
TEST(ten_thousand_exits)
{
	long before;

	begin(NULL);
	run();
	before = fx_rss_kib(&fx);
	for (uint32_t i = 0; i < 10000; i++) {
		fx_exited(&fx, 1000 + i, 1);
		if (i % 500 == 0)
			CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__RUNNING);
	}
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__RUNNING);
	CHECK_INT(fx.n_records, 0);
#if !defined(__SANITIZE_ADDRESS__) /* it keeps what is freed */
	CHECK(fx_rss_kib(&fx) - before < 1024);
#else
	(void)before;
#endif
	down(false);
}

/* ---- the supervisor ---- */

static int ctl(void)
{
	return fx.fd[P_CTL];
}

TEST(supervisor) { hostile_supervisor(&netd, ctl, 1U << CTL_CHILD_EXIT | 1U << CTL_OOM); }
