/*
 * How long containerd waits for `start`, and for the first answer after it.
 *
 *	start_bench ROUNDS NAMESPACE SOCKET CONFIG DIR NAME=BINARY...
 *
 * In each round each binary is started once, in turn, so that whatever else
 * the machine does hits all alike; a binary named "nop" is only run, for the
 * floor. CONFIG is a config.json in which @ID@ stands for the container's id.
 * The shim is left running until its first answer, then shut down and deleted.
 *
 * One line for each start, in microseconds, and one for each line of the shim's log:
 *
 *	start	NAME	ROUND	WALL	CPU	ANSWER	DELETE
 *	log	NAME	ROUND	TEXT
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/io.h"

#define ANSWER_MAX   4096
#define RPC_WAIT_MS  5000
#define SERVICE      "containerd.task.v2.Task"
#define ADDRESS_HEAD "unix://"

struct setting {
	const char *ns, *socket, *dir;
	char *config;
};

struct start {
	const char *name, *binary;
	char id[64], bundle[512], answer[ANSWER_MAX];
	int log; /* the reading end of the bundle's FIFO */
	long wall_us, cpu_us, answer_us, delete_us;
};

_Noreturn static void die(const char *what)
{
	fprintf(stderr, "start_bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static long now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static long cpu_us(const struct rusage *u)
{
	return (u->ru_utime.tv_sec + u->ru_stime.tv_sec) * 1000000L + u->ru_utime.tv_usec +
	        u->ru_stime.tv_usec;
}

/* --- the bundle */

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[600];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write_full(fd, text, strlen(text)) < 0)
		die(path);
	close(fd);
}

/* The template with the id in the place of @ID@; the caller's. */
static char *fill_in(const char *template, const char *id)
{
	char *out = malloc(strlen(template) + 16 * strlen(id) + 1), *to = out;
	const char *at;

	if (!out)
		die("memory");
	for (; (at = strstr(template, "@ID@")); template = at + 4) {
		memcpy(to, template, (size_t)(at - template));
		to = stpcpy(to + (at - template), id);
	}
	strcpy(to, template);
	return out;
}

static void make_bundle(struct start *s, const struct setting *set)
{
	_cleanup_free_ char *config = fill_in(set->config, s->id);
	char path[600];

	snprintf(s->bundle, sizeof(s->bundle), "%s/%s", set->dir, s->id);
	snprintf(path, sizeof(path), "%s/rootfs", s->bundle);
	if (mkdir(s->bundle, 0711) < 0 || mkdir(path, 0711) < 0)
		die(path);
	write_file(s->bundle, "config.json", config);
	snprintf(path, sizeof(path), "%s/log", s->bundle);
	if (mkfifo(path, 0700) < 0)
		die(path);
	s->log = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (s->log < 0)
		die(path);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void print_log(const struct start *s, int round)
{
	static char text[1 << 16];
	ssize_t n = read(s->log, text, sizeof(text) - 1);

	if (n <= 0)
		return;
	text[n] = '\0';
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		printf("log\t%s\t%d\t%s\n", s->name, round, line);
}

/* --- running the binary, as containerd does */

static pid_t spawn(const struct start *s, const struct setting *set, const char *verb, int out)
{
	const char *argv[] = { s->binary, "-namespace", set->ns, "-address", set->socket,
		"-publish-binary", "/usr/bin/containerd", "-id", s->id, "-bundle", s->bundle, verb,
		NULL };
	char path_env[600], ttrpc[300], grpc[300], ns[100];
	char *env[] = { path_env, ttrpc, grpc, ns, (char *)"MAX_SHIM_VERSION=2",
		(char *)"GOMAXPROCS=2", NULL };
	posix_spawn_file_actions_t act;
	pid_t pid;
	int r;

	snprintf(path_env, sizeof(path_env), "PATH=%s", getenv("PATH"));
	snprintf(ttrpc, sizeof(ttrpc), "TTRPC_ADDRESS=%s.ttrpc", set->socket);
	snprintf(grpc, sizeof(grpc), "GRPC_ADDRESS=%s", set->socket);
	snprintf(ns, sizeof(ns), "NAMESPACE=%s", set->ns);
	posix_spawn_file_actions_init(&act);
	posix_spawn_file_actions_addopen(&act, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&act, out, 1);
	posix_spawn_file_actions_adddup2(&act, out, 2);
	if (s->bundle[0])
		posix_spawn_file_actions_addchdir_np(&act, s->bundle);
	r = posix_spawn(&pid, s->binary, &act, NULL, (char **)argv, env);
	posix_spawn_file_actions_destroy(&act);
	if (r != 0) {
		errno = r;
		die(s->binary);
	}
	return pid;
}

/* To the end of its output and its own end; the output, cut at ANSWER_MAX. */
static int run(const struct start *s, const struct setting *set, const char *verb, char *output,
        struct rusage *usage)
{
	size_t len = 0;
	int pipe_fd[2], status;
	ssize_t n;
	pid_t pid;

	if (pipe2(pipe_fd, O_CLOEXEC) < 0)
		die("pipe");
	pid = spawn(s, set, verb, pipe_fd[1]);
	close(pipe_fd[1]);
	while ((n = read(pipe_fd[0], output + len, ANSWER_MAX - 1 - len)) > 0)
		len += (size_t)n;
	output[len] = '\0';
	close(pipe_fd[0]);
	if (wait4(pid, &status, 0, usage) < 0)
		die("wait4");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* --- one request on its socket */

static size_t put_field(unsigned char *to, int number, const void *data, size_t len)
{
	to[0] = (unsigned char)(number << 3 | 2);
	to[1] = (unsigned char)len; /* one byte will do: everything here is short */
	memcpy(to + 2, data, len);
	return 2 + len;
}

static void send_request(int fd, uint32_t stream, const char *method, const char *id)
{
	unsigned char frame[256], inner[80];
	size_t at = 10, len = put_field(inner, 1, id, strlen(id));
	uint32_t be;

	at += put_field(frame + at, 1, SERVICE, strlen(SERVICE));
	at += put_field(frame + at, 2, method, strlen(method));
	at += put_field(frame + at, 3, inner, len);
	be = __builtin_bswap32((uint32_t)(at - 10));
	memcpy(frame, &be, 4);
	be = __builtin_bswap32(stream);
	memcpy(frame + 4, &be, 4);
	frame[8] = 1;
	frame[9] = 0;
	if (write_full(fd, frame, at) < 0)
		die("send a request");
}

/* Reads one whole answer, whatever it says. 0, or -1 at the end of the connection. */
static int receive_answer(int fd)
{
	unsigned char head[10], body[4096];
	uint32_t len;

	if (recv(fd, head, sizeof(head), MSG_WAITALL) != sizeof(head))
		return -1;
	memcpy(&len, head, 4);
	len = __builtin_bswap32(len);
	if (len > sizeof(body))
		return -1;
	return recv(fd, body, len, MSG_WAITALL) == (ssize_t)len ? 0 : -1;
}

static int connect_to(const char *address)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct timeval wait = { .tv_sec = RPC_WAIT_MS / 1000 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strncmp(address, ADDRESS_HEAD, strlen(ADDRESS_HEAD)) != 0)
		die(address);
	address += strlen(ADDRESS_HEAD);
	memcpy(a.sun_path, address, strnlen(address, sizeof(a.sun_path) - 1));
	a.sun_path[strcspn(a.sun_path, "\n")] = '\0';
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0 ||
	        connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die(a.sun_path);
	return fd;
}

/* --- one start */

static void measure_shim(struct start *s, const struct setting *set, int round)
{
	char ignored[ANSWER_MAX];
	struct rusage usage;
	long began;
	int fd;

	make_bundle(s, set);
	began = now_us();
	if (run(s, set, "start", s->answer, &usage) != 0) {
		fprintf(stderr, "start_bench: %s: %s\n", s->name, s->answer);
		exit(1);
	}
	s->wall_us = now_us() - began;
	s->cpu_us = cpu_us(&usage);

	fd = connect_to(s->answer);
	send_request(fd, 1, "State", s->id);
	if (receive_answer(fd) < 0)
		die("the first answer");
	s->answer_us = now_us() - began;

	send_request(fd, 3, "Shutdown", s->id);
	while (receive_answer(fd) == 0)
		;
	close(fd);
	began = now_us();
	run(s, set, "delete", ignored, &usage);
	s->delete_us = now_us() - began;

	print_log(s, round);
	close(s->log);
	nftw(s->bundle, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void measure_nop(struct start *s, const struct setting *set)
{
	struct rusage usage;
	long began = now_us();

	run(s, set, "start", s->answer, &usage);
	s->wall_us = now_us() - began;
	s->cpu_us = cpu_us(&usage);
}

static void measure(const char *name, const char *binary, const struct setting *set, int round)
{
	struct start s = { .name = name, .binary = binary, .log = -1 };

	snprintf(s.id, sizeof(s.id), "%s%d", name, round);
	if (strcmp(name, "nop") == 0)
		measure_nop(&s, set);
	else
		measure_shim(&s, set, round);
	printf("start\t%s\t%d\t%ld\t%ld\t%ld\t%ld\n", name, round, s.wall_us, s.cpu_us, s.answer_us,
	        s.delete_us);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct setting set = { 0 };
	struct error err = ERROR_INIT;
	size_t len;
	int fd, rounds;

	if (argc < 7) {
		fprintf(stderr, "start_bench ROUNDS NAMESPACE SOCKET CONFIG DIR NAME=BINARY...\n");
		return 2;
	}
	rounds = atoi(argv[1]);
	set.ns = argv[2];
	set.socket = argv[3];
	set.dir = argv[5];
	fd = open(argv[4], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(argv[4]);
	set.config = read_file_fd(fd, 1 << 20, &len, &err);
	if (!set.config)
		die(err.msg);
	close(fd);

	/* The first round warms caches up and is not printed apart: its number is 0. */
	for (int round = 0; round <= rounds; round++)
		for (int i = 6; i < argc; i++) {
			char *name = argv[i], *eq = strchr(name, '=');

			if (!eq)
				die("an argument is not NAME=BINARY");
			*eq = '\0';
			measure(name, eq + 1, &set, round);
			*eq = '=';
		}
	free(set.config);
	return 0;
}
