/*
 * The guest agent: PID 1 of the VM, and the only program of ours in it.
 *
 * It boots the guest as far as the port to the host needs, says hello, boots the rest, and then
 * serves Kata's agent protocol over that port until the host goes away or asks for the end. One
 * loop, no threads; whatever may block is done by a forked child (job.h). Containers are crun's;
 * the agent adopts their processes when crun has gone, and so is told how they end.
 *
 * The host is trusted to be our agentd, but its bytes are not trusted to be well formed: a request
 * that cannot be decoded is answered with an error, framing that cannot be followed ends the VM.
 * Containers are not trusted at all, and reach the agent only through their streams and exits.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include "boot.h"
#include "container.h"
#include "crun.h"
#include "loop.h"
#include "modules.h"
#include "port.h"
#include "rpc.h"
#include "sandbox.h"
#include "share.h"
#include "util.h"

#define PORT_NAME  "agent.channel.0"
#define VSOCK_PORT 1024
#define HELLO      "bulkhead-agent/1"

/* The end of a child only has to wake the loop. */
static void child_ready(struct watch *w, uint32_t events)
{
	struct signalfd_siginfo info;

	(void)events;
	if (read(w->fd, &info, sizeof(info)) < 0 && errno != EAGAIN)
		die("signalfd: %s", strerror(errno));
}

static void watch_children(void)
{
	static struct watch watch = { .ready = child_ready };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	watch.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (watch.fd < 0)
		die("signalfd: %s", strerror(errno));
	watch_set(&watch, EPOLLIN);
}

/* By virtio-serial, unless the host says otherwise: in the word that it would say to Kata's agent. */
static void meet_host(void)
{
	if (!boot_word("agent.server_addr=vsock://-1:1024")) {
		port_open(PORT_NAME, HELLO);
		return;
	}
	modules_need("vmw_vsock_virtio_transport");
	port_listen(VSOCK_PORT, HELLO);
}

int main(void)
{
	if (getpid() != 1)
		return 1;
	signal(SIGPIPE, SIG_IGN);
	boot_early();
	modules_load("/lib/modules/early");
	meet_host();

	boot_late();
	modules_load("/lib/modules/late");
	share_init();
	sandbox_init();
	crun_init();
	if (make_dirs("/run/bulkhead/containers") < 0)
		die("mkdir /run/bulkhead: %s", strerror(errno));

	loop_init();
	watch_children();
	port_on_relief(containers_resume);
	port_serve(rpc_frame);
	for (;;) {
		loop_once();
		containers_reap();
	}
}
