/* policy-compile NAME FILE: the BPF program of a policy, at build time. */
#include <fcntl.h>
#include <stdio.h>

#include "common/policy.h"

int main(int argc, char **argv)
{
	struct error err = ERROR_INIT;
	int fd;

	if (argc != 3) {
		fprintf(stderr, "usage: policy-compile NAME FILE\n");
		return 2;
	}
	fd = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0) {
		perror(argv[2]);
		return 1;
	}
	if (policy_export(argv[1], fd, &err) < 0) {
		fprintf(stderr, "policy-compile: %s\n", err.msg);
		return 1;
	}
	return 0;
}
