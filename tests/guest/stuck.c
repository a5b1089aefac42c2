/*
 * A process whose command line cannot be read: stuck FILE. When its stdin ends, one thread has a page
 * of FILE read through /proc/self/mem, which waits for the file system with the lock of the mappings
 * held, and another wants to map something: whoever asks for the lock after it waits too.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void say(const char *text)
{
	if (write(1, text, strlen(text)) < 0)
		_exit(1);
}

static int mem;

static void *read_it(void *page)
{
	char byte;

	say("reading\n");
	_exit(pread(mem, &byte, 1, (off_t)(uintptr_t)page) == 1 ? 3 : 4);
}

int main(int argc, char **argv)
{
	pthread_t thread;
	void *page;
	char byte;

	/* Its own pages, and the way to /proc, come from the same file system: nothing may be missing later. */
	mem = open("/proc/self/mem", O_RDONLY);
	if (argc != 2 || mem < 0 || mlockall(MCL_CURRENT) < 0)
		return 1;
	page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, open(argv[1], O_RDONLY), 0);
	if (page == MAP_FAILED)
		return 1;
	say("ready\n");
	while (read(0, &byte, 1) > 0)
		;
	if (pthread_create(&thread, NULL, read_it, page) != 0)
		return 2;
	sleep(1);
	say("mapping\n");
	(void)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pause();
	return 0;
}
