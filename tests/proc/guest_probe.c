/*
 * A window into the guest, for tests: put into its initrd, started as its first
 * program. It leaves a child behind that reads and writes sysfs for whoever
 * asks on the console, and becomes the guest's own init.
 *
 *	cat PATH, ls PATH, set PATH TEXT	answered by "[[...]]"
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

static void cat(FILE *out, const char *path)
{
	FILE *f = fopen(path, "r");
	int c;

	if (!f)
		fprintf(out, "!%s", strerror(errno));
	while (f && (c = getc(f)) != EOF)
		putc(c < ' ' ? ' ' : c, out);
	if (f)
		fclose(f);
}

static void ls(FILE *out, const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	if (!d)
		fprintf(out, "!%s", strerror(errno));
	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			fprintf(out, "%s ", e->d_name);
	if (d)
		closedir(d);
}

static void set(FILE *out, char *path)
{
	char *text = strchr(path, ' ');
	int fd;

	if (!text)
		return;
	*text++ = '\0';
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fprintf(out, "!%s", strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void answer(FILE *out, char *line)
{
	line[strcspn(line, "\r\n")] = '\0';
	fputs("[[", out);
	if (strncmp(line, "cat ", 4) == 0)
		cat(out, line + 4);
	else if (strncmp(line, "ls ", 3) == 0)
		ls(out, line + 3);
	else if (strncmp(line, "set ", 4) == 0)
		set(out, line + 4);
	fputs("]]\n", out);
	fflush(out);
}

static void serve(void)
{
	char line[512];
	struct termios t;
	FILE *in, *out;
	int fd = -1;

	for (int i = 0; fd < 0 && i < 2000; i++) {
		fd = open("/p/dev/hvc0", O_RDWR);
		usleep(50000);
	}
	if (fd < 0 || tcgetattr(fd, &t) < 0)
		return;
	cfmakeraw(&t);
	tcsetattr(fd, TCSANOW, &t);
	in = fdopen(fd, "r");
	out = fdopen(dup(fd), "w");
	fputs("[[ready]]\n", out); /* what came before is lost with the terminal's old modes */
	fflush(out);
	while (in && out && fgets(line, sizeof(line), in))
		answer(out, line);
}

int main(void)
{
	mkdir("/p", 0755);
	mkdir("/p/sys", 0755);
	mkdir("/p/dev", 0755);
	mkdir("/p/proc", 0755);
	mount("sysfs", "/p/sys", "sysfs", 0, NULL);
	mount("proc", "/p/proc", "proc", 0, NULL);
	mount("devtmpfs", "/p/dev", "devtmpfs", 0, NULL);
	if (fork() == 0) {
		setsid();
		serve();
		return 0;
	}
	execl("/init", "/init", (char *)NULL);
	return 1;
}
