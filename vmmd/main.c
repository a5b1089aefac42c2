#include <errno.h>
#include <sched.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h> /* needs <sys/socket.h> */

#include "common/log.h"
#include "common/options.h"
#include "ipc/fds.h"
#include "ipc/role.h"
#include "vmmd/vmmd.h"

#define NOFILE 256 /* our channels; during LAUNCH three pairs, the share, 64 queues with vhost */

/* The machines there are tests of a whole VM for. */
static const char *const machines[] = { [MACHINE_Q35] = "q35", NULL };

static int parse(int argc, char **argv, struct vmmd_options *o, struct error *err)
{
	const char *accel = NULL, *machine = machines[MACHINE_Q35];
	uint64_t cid = 0;
	const struct option table[] = {
		{ "uid", OPTION_NUMBER, &o->uid, false },
		{ "accel", OPTION_TEXT, &accel, false },
		{ "machine", OPTION_TEXT, &machine, true },
		{ "append", OPTION_TEXT, &o->append, false },
		{ "qemu", OPTION_TEXT, &o->qemu, false },
		{ "name", OPTION_TEXT, &o->name, true },
		{ "cid", OPTION_NUMBER, &cid, true },
		{ 0 },
	};
	int r = options_parse(table, argc, argv, err);

	if (r < 0)
		return r;
	if (o->uid == 0 || o->uid >= (uid_t)-1)
		return error_set(err, EINVAL, "uid=%llu is not for vmmd",
			(unsigned long long)o->uid);
	if (cid && (cid <= VMADDR_CID_HOST || cid >= VMADDR_CID_ANY))
		return error_set(err, EINVAL, "cid=%llu is no guest's", (unsigned long long)cid);
	o->cid = (unsigned)cid;
	r = qemu_word(machines, "machine", machine, err);
	if (r < 0)
		return r;
	o->machine = (enum machine_type)r;
	r = qemu_word(accels, "accel", accel, err);
	if (r < 0)
		return r;
	o->accel = (enum accel_type)r;
	return 0;
}

static int isolate_vmmd(const struct vmmd_options *o, struct error *err)
{
	const struct isolation iso = {
		.name = "vmmd",
		.first_free_fd = o->cid ? VMMD_FD_END : VMMD_FD_VHOST_VSOCK,
		.void_pidfd = VMMD_FD_VOID,
		.void_namespaces = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET,
		.uid = (uid_t)o->uid,
		.nofile = NOFILE,
		.policy = "vmmd",
	};

	return isolate(&iso, err);
}

int main(int argc, char **argv)
{
	struct vmmd_options options = { .name = "sandbox" };
	struct error err = ERROR_INIT;
	int r;

	role_ignore_signals();
	r = parse(argc, argv, &options, &err);
	if (r == 0)
		r = isolate_vmmd(&options, &err);
	if (r < 0)
		role_fail(ROLE_VMMD, &err);

	r = role_wait_lock(ROLE_VMMD, &err);
	if (r == 0)
		r = vmmd_serve(&options, &err);
	if (r < 0) {
		log_error("%s", err.msg);
		return ROLE_EXIT_FAILED;
	}
	return 0;
}
