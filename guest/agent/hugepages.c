#include "hugepages.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#define POOL "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/%s"

/* Of the guest's memory, for everything else that comes. */
#define SPARE_KIB (32 << 10)

/* -- what is asked for */

/* "2MB"; 0: it is no size. */
static uint64_t read_kib(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	if (end == text || n == 0 || n > 1024)
		return 0;
	return strcmp(end, "KB") == 0 ? n :
	       strcmp(end, "MB") == 0 ? n << 10 :
	       strcmp(end, "GB") == 0 ? n << 20 :
					0;
}

static bool has_pool(uint64_t kib)
{
	_cleanup_free_ char *path = xasprintf(POOL, kib, "nr_hugepages");

	return access(path, F_OK) == 0;
}

static int no_pool(uint64_t kib, struct error *err)
{
	return error_set(err, CODE_INVALID_ARGUMENT,
	        "the guest's kernel has no huge pages of %" PRIu64 " kB", kib);
}

int hugepages_check(uint64_t bytes, struct error *err)
{
	return bytes % 1024 == 0 && has_pool(bytes / 1024) ? 0 : no_pool(bytes / 1024, err);
}

int hugepages_read(const Grpc__LinuxResources *resources, struct hugepages *ret, struct error *err)
{
	*ret = (struct hugepages){ .n = 0 };
	for (size_t i = 0; resources && i < resources->n_hugepagelimits; i++) {
		const Grpc__LinuxHugepageLimit *limit = resources->hugepagelimits[i];
		uint64_t kib = read_kib(limit->pagesize);

		if (limit->limit == 0)
			continue;
		if (kib == 0)
			return error_set(err, CODE_INVALID_ARGUMENT,
			        "\"%.32s\" is no size of a huge page", limit->pagesize);
		if (!has_pool(kib))
			return no_pool(kib, err);
		if (ret->n == HUGEPAGES_MAX)
			return error_set(err, CODE_INVALID_ARGUMENT,
			        "more than %d limits of huge pages", HUGEPAGES_MAX);
		ret->of[ret->n].kib = kib;
		ret->of[ret->n++].pages = (limit->limit - 1) / (kib << 10) + 1;
	}
	return 0;
}

void hugepages_leave_out(Grpc__LinuxResources *resources)
{
	size_t kept = 0;

	for (size_t i = 0; resources && i < resources->n_hugepagelimits; i++) {
		Grpc__LinuxHugepageLimit *limit = resources->hugepagelimits[i];

		if (limit->limit > 0 || has_pool(read_kib(limit->pagesize)))
			resources->hugepagelimits[kept++] = limit;
	}
	if (resources)
		resources->n_hugepagelimits = kept;
}

/* -- the pools */

static uint64_t read_number(uint64_t kib, const char *name)
{
	_cleanup_free_ char *path = xasprintf(POOL, kib, name);
	char text[32];

	return file_read(path, text, sizeof(text)) > 0 ? strtoull(text, NULL, 10) : 0;
}

/* Those that are to stay. Others are still used, and go when they are free. */
static uint64_t pool_size(uint64_t kib)
{
	uint64_t all = read_number(kib, "nr_hugepages"), surplus = read_number(kib, "surplus_hugepages");

	return all > surplus ? all - surplus : 0;
}

static void write_number(uint64_t kib, const char *name, uint64_t number)
{
	_cleanup_free_ char *path = xasprintf(POOL, kib, name);
	_cleanup_free_ char *text = xasprintf("%" PRIu64, number);

	(void)file_write(path, text);
}

/* It takes what there is, and tells nobody. */
static void set_pool_size(uint64_t kib, uint64_t pages)
{
	write_number(kib, "nr_hugepages", pages);
}

/* How much memory there is for such pages. */
static uint64_t room_kib(void)
{
	char text[4096];
	const char *at = file_read("/proc/meminfo", text, sizeof(text)) > 0 ?
	        strstr(text, "MemAvailable:") :
	        NULL;
	uint64_t left = at ? strtoull(at + strlen("MemAvailable:"), NULL, 10) : 0;

	return left > SPARE_KIB ? left - SPARE_KIB : 0;
}

/* Not without end: the kernel takes all that it may before it says that it is not enough. */
void hugepages_on_demand(uint64_t bytes)
{
	uint64_t kib = bytes / 1024;

	write_number(kib, "nr_overcommit_hugepages", room_kib() / kib);
}

/* -1: errno says why. */
static int lock(uint64_t kib)
{
	_cleanup_free_ char *path = xasprintf(POOL, kib, "nr_hugepages");
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && flock(fd, LOCK_EX) < 0)
		close_fd(&fd);
	return fd;
}

/* As the kernel would not look before it takes. What is surplus becomes ours. */
static int check_room(uint64_t kib, uint64_t pages, struct error *err)
{
	uint64_t surplus = read_number(kib, "surplus_hugepages"), left = room_kib();
	uint64_t more = pages > surplus ? pages - surplus : 0;

	if (more <= left / kib)
		return 0;
	return error_set(err, CODE_RESOURCE_EXHAUSTED,
	        "%" PRIu64 " huge pages of %" PRIu64 " kB do not fit into the VM: it has %" PRIu64
	        " MiB of memory left for such",
	        pages, kib, left >> 10);
}

/* Read back: fewer are as good as none. */
static int grow(uint64_t kib, uint64_t pages, struct error *err)
{
	_cleanup_close_ int fd = lock(kib);
	uint64_t before, after;

	if (fd < 0)
		return error_errno(err, "lock the huge pages of %" PRIu64 " kB", kib);
	if (check_room(kib, pages, err) < 0)
		return -1;
	before = pool_size(kib);
	set_pool_size(kib, before + pages);
	after = pool_size(kib);
	if (after >= before + pages)
		return 0;
	set_pool_size(kib, before);
	return error_set(err, CODE_RESOURCE_EXHAUSTED,
	        "of %" PRIu64 " huge pages of %" PRIu64 " kB the guest's kernel found room for %" PRIu64,
	        pages, kib, after > before ? after - before : 0);
}

static void shrink(uint64_t kib, uint64_t pages)
{
	_cleanup_close_ int fd = lock(kib);
	uint64_t size = pool_size(kib);

	set_pool_size(kib, size > pages ? size - pages : 0);
}

int hugepages_take(const struct hugepages *h, struct error *err)
{
	for (size_t i = 0; i < h->n; i++) {
		if (grow(h->of[i].kib, h->of[i].pages, err) == 0)
			continue;
		while (i-- > 0)
			shrink(h->of[i].kib, h->of[i].pages);
		return -1;
	}
	return 0;
}

void hugepages_give_back(const struct hugepages *h)
{
	for (size_t i = 0; i < h->n; i++)
		shrink(h->of[i].kib, h->of[i].pages);
}
