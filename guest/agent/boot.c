#include "boot.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "util.h"

struct boot_mount {
	const char *type, *target, *data;
	unsigned long flags;
};

#define SAFE (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static const struct boot_mount early[] = {
	{ "proc", "/proc", NULL, SAFE },
	{ "sysfs", "/sys", NULL, SAFE },
	{ "devtmpfs", "/dev", "mode=0755", MS_NOSUID },
};

static const struct boot_mount late[] = {
	{ "cgroup2", "/sys/fs/cgroup", "nsdelegate,memory_recursiveprot", SAFE },
	{ "devpts", "/dev/pts", "mode=0620,gid=5,ptmxmode=0666", MS_NOSUID | MS_NOEXEC },
	{ "tmpfs", "/dev/shm", "mode=1777", SAFE },
	{ "mqueue", "/dev/mqueue", NULL, SAFE },
	{ "tmpfs", "/run", "mode=0755", MS_NOSUID | MS_NODEV },
	{ "tmpfs", "/tmp", "mode=1777", MS_NOSUID | MS_NODEV },
};

static void mount_all(const struct boot_mount *m, size_t n)
{
	for (; n > 0; n--, m++) {
		(void)mkdir(m->target, 0755);
		if (mount(m->type, m->target, m->type, m->flags, m->data) < 0)
			die("mount %s on %s: %s", m->type, m->target, strerror(errno));
	}
}

/*
 * The kernel's own root ("rootfs", where the initramfs was unpacked) has no parent mount, and
 * pivot_root(2) refuses to move such a root away. A bind mount of it on top of itself has one, and
 * costs no copy of the files.
 */
static void leave_rootfs(void)
{
	if (mount("/", "/root", NULL, MS_BIND, NULL) < 0 || chdir("/root") < 0 ||
	        mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		die("cannot leave the initramfs: %s", strerror(errno));
}

/* The kernel found no console yet to open for us: without this, 0 to 2 would be the next files. */
static void open_stdio(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd < 2);
	if (fd > 2)
		close(fd);
}

void boot_early(void)
{
	leave_rootfs();
	mount_all(early, ARRAY_SIZE(early));
	open_stdio();
}

bool boot_word(const char *word)
{
	char text[4096], *save = NULL;
	ssize_t len = file_read("/proc/cmdline", text, sizeof(text));

	if (len < 0)
		die("/proc/cmdline: %s", strerror((int)-len));
	for (char *w = strtok_r(text, " \n", &save); w; w = strtok_r(NULL, " \n", &save))
		if (strcmp(w, word) == 0)
			return true;
	return false;
}

/* Hand the controllers down to /bulkhead, whose children are the containers. */
static void enable_controllers(void)
{
	static const char *const controllers[] = { "+cpu", "+cpuset", "+io", "+memory", "+pids",
		"+hugetlb" };

	if (mkdir("/sys/fs/cgroup/bulkhead", 0755) < 0)
		die("mkdir /sys/fs/cgroup/bulkhead: %s", strerror(errno));
	for (size_t i = 0; i < ARRAY_SIZE(controllers); i++) {
		/* A kernel without one of them is fine until a container asks for it. */
		(void)file_write("/sys/fs/cgroup/cgroup.subtree_control", controllers[i]);
		(void)file_write("/sys/fs/cgroup/bulkhead/cgroup.subtree_control", controllers[i]);
	}
}

static void loopback_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		log_line("loopback: %s", strerror(errno));
}

void boot_late(void)
{
	mount_all(late, ARRAY_SIZE(late));
	enable_controllers();
	loopback_up();
}
