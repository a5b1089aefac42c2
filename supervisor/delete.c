#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/io.h"
#include "common/log.h"
#include "ipc/ctl.h"
#include "ipc/exits.h"
#include "supervisor/cgroup.h"
#include "supervisor/launcher.h"
#include "supervisor/netns.h"
#include "supervisor/process.h"
#include "supervisor/shim.pb-c.h"
#include "supervisor/spec.h"

#define DEATH_TIMEOUT_MS 3000

static void load_cgroups(struct sandbox *s, struct cgroups *c)
{
	struct error err = ERROR_INIT;
	_cleanup_free_ char *text = sandbox_read(s, "cgroups", &err);

	c->n = 0;
	c->v2 = false;
	if (!text && err.code == ENOENT)
		return; /* recorded before they are made: there are none */
	s->keep |= !text;
	if (!text || cgroup_parse(c, text, &err) < 0)
		log_warn("%s", err.msg);
}

/* Kills the VM, then PID 1 of the namespace, which takes everybody with it. */
static void kill_all(const struct sandbox *s, const struct cgroups *c)
{
	struct error err = ERROR_INIT;
	_cleanup_close_ int pidfd = process_open(s, &err);
	struct pollfd pfd = { .fd = pidfd, .events = POLLIN };
	int64_t deadline = clock_ms() + DEATH_TIMEOUT_MS;

	if (c->v2 && cgroup_kill(c, "vm", &err) < 0 && err.code != ENOENT)
		log_warn("%s", err.msg);
	if (pidfd >= 0) {
		if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
			log_warn("kill the supervisor: %s", strerrordesc_np(errno));
		poll(&pfd, 1, DEATH_TIMEOUT_MS);
	}
	/* Whoever left the namespace's fate behind but not the cgroup. */
	if (!cgroup_is_empty(c) && c->v2 && cgroup_kill(c, "", &err) < 0)
		log_warn("%s", err.msg);
	while (!cgroup_is_empty(c) && clock_left_ms(deadline) > 0)
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
}

/* Of a namespace that is not ours, and lives on: the links are to be as they were. */
static void clean_network(struct sandbox *s, const struct config *c)
{
	struct error err = ERROR_INIT;
	_cleanup_free_ char *netns = sandbox_read(s, "netns", &err);

	if (s->lease < 0 || (!netns && err.code == ENOENT))
		return; /* it never started, or had a namespace of its own, which is gone */
	if (!netns || netns_clean(netns, c->libexec, sandbox_uid_base(s, c) + ROLE_NETD, &err) < 0) {
		log_warn("%s", err.msg);
		s->keep = true;
	}
}

static void remove_all(struct sandbox *s, const struct config *c, const struct cgroups *cgroups)
{
	clean_network(s, c);
	if (!cgroup_remove(cgroups))
		s->keep = true;
	sandbox_remove(s);
}

void launcher_teardown(struct sandbox *s, const struct config *c)
{
	static struct cgroups cgroups;

	load_cgroups(s, &cgroups);
	kill_all(s, &cgroups);
	remove_all(s, c, &cgroups);
}

/* ---- the exit that is told ---- */

struct told_exit {
	uint32_t status;
	int64_t at_ns;
};

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Written by persistd, and by no other name anywhere: else it could be anybody's file. */
static bool is_persistds(int fd, uid_t persistd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_uid == persistd && st.st_nlink == 1;
}

/* What persistd recorded for this container. Its file is read after everybody is dead. */
static void recorded_exit(const struct sandbox *s, const struct config *c, const char *id,
	struct told_exit *ret)
{
	static struct exits exits;
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *text = NULL;
	struct error err = ERROR_INIT;
	struct exit_record *record;
	size_t len;

	fd = openat(s->dir_fd, "state/" EXITS_FILE,
		O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return;
	if (!is_persistds(fd, sandbox_uid_base(s, c) + ROLE_PERSISTD)) {
		log_warn("the recorded exits: the file is not persistd's");
		return;
	}
	text = read_file_fd(fd, EXITS_FILE_MAX, &len, &err);
	if (!text || exits_parse(text, len, &exits, &err) < 0) {
		log_warn("the recorded exits: %s", err.msg);
		return;
	}
	record = exits_find(&exits, id);
	if (record)
		*ret = (struct told_exit){ record->status, record->exited_at_ns };
}

static int print_response(const struct told_exit *e, struct error *err)
{
	Shim__DeleteResponse msg = SHIM__DELETE_RESPONSE__INIT;
	Shim__Timestamp at = SHIM__TIMESTAMP__INIT;
	uint8_t buf[64];
	int r;

	at.seconds = e->at_ns / 1000000000;
	at.nanos = (int32_t)(e->at_ns % 1000000000);
	msg.exit_status = e->status;
	msg.exited_at = &at;
	r = write_full(STDOUT_FILENO, buf, shim__delete_response__pack(&msg, buf));
	return r < 0 ? error_errno(err, -r, "print the answer") : 0;
}

/* ---- delete ---- */

/* The sandbox the container belongs to: by its bundle if that can still be read, else its own. */
static void owner_of(const struct args *a, char *out, size_t size)
{
	struct error err = ERROR_INIT;
	struct spec spec;
	_cleanup_close_ int bundle = open(a->bundle[0] ? a->bundle : ".",
		O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	snprintf(out, size, "%s", a->id);
	if (bundle >= 0 && spec_read(bundle, &spec, &err) == 0 && spec.kind == CONTAINER_POD &&
		id_is_valid(spec.sandbox_id))
		snprintf(out, size, "%s", spec.sandbox_id);
}

int launcher_delete(const struct config *c, const struct args *a, struct error *err)
{
	struct told_exit told = { .status = 128 + SIGKILL, .at_ns = now_ns() };
	struct sandbox s;
	struct error why = ERROR_INIT;
	char owner[ID_MAX + 1];
	static struct cgroups cgroups;

	owner_of(a, owner, sizeof(owner));
	if (sandbox_init(&s, c, a, owner, &why) == 0 && sandbox_open(&s, &why) == 0) {
		if (strcmp(owner, a->id) == 0) {
			load_cgroups(&s, &cgroups);
			kill_all(&s, &cgroups);
			recorded_exit(&s, c, a->id, &told);
			remove_all(&s, c, &cgroups);
		} else {
			/* One container of a pod that lives on: only its exit is asked for. */
			recorded_exit(&s, c, a->id, &told);
		}
	} else if (why.code != ENOENT) {
		log_warn("%s", why.msg);
	}
	sandbox_done(&s);
	return print_response(&told, err);
}
