/*
 * hugemap FILE PAGES [TEXT]: maps so many pages of 2 MiB of a file in a hugetlbfs, and writes TEXT to
 * the last of them, or says what is there and how large the kernel's pages are.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE (2UL << 20)

/* The line of smaps that belongs to a mapping. */
static void print_page_size(const char *map)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512], start[32];
	int found = 0;

	snprintf(start, sizeof(start), "%lx-", (unsigned long)map);
	while (f && fgets(line, sizeof(line), f)) {
		found |= strncmp(line, start, strlen(start)) == 0;
		if (found && strncmp(line, "KernelPageSize:", 15) == 0) {
			printf("%ld kB\n", strtol(line + 15, NULL, 10));
			return;
		}
	}
}

int main(int argc, char **argv)
{
	unsigned long pages = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
	int fd = pages ? open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
	char *map = MAP_FAILED, *last;

	if (fd >= 0 && ftruncate(fd, (off_t)(pages * PAGE)) == 0)
		map = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		perror(argv[1] ? argv[1] : "hugemap");
		return 1;
	}
	last = map + (pages - 1) * PAGE;
	for (unsigned long i = 0; i < pages && argc > 3; i++)
		map[i * PAGE] = 'x';
	if (argc > 3)
		snprintf(last, PAGE, "%s", argv[3]);
	puts(last);
	print_page_size(map);
	return 0;
}
