#include "common/io.h"

#include <errno.h>
#include <unistd.h>

#include "common/fdio.h"

int write_full(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

ssize_t read_full(int fd, void *data, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = read(fd, (char *)data + got, len - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

char *read_file_fd(int fd, size_t max, size_t *ret_len, struct error *err)
{
	_cleanup_free_ char *buf = NULL;
	struct stat st;
	size_t len = 0, size;

	if (fd_stat(fd, &st) < 0) {
		error_errno(err, errno, "stat");
		return NULL;
	}
	if (!S_ISREG(st.st_mode)) {
		error_set(err, EINVAL, "not a regular file");
		return NULL;
	}
	if (st.st_size < 0 || (size_t)st.st_size > max) {
		error_set(err, EFBIG, "%lld bytes, the limit is %zu", (long long)st.st_size, max);
		return NULL;
	}

	/* One byte more than it had: a file that grows meanwhile is seen, not cut. */
	size = (size_t)st.st_size + 1;
	buf = malloc(size + 1);
	if (!buf) {
		error_errno(err, ENOMEM, "read");
		return NULL;
	}
	while (len < size) {
		ssize_t n = pread(fd, buf + len, size - len, (off_t)len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			error_errno(err, errno, "read");
			return NULL;
		}
		if (n == 0)
			break;
		len += (size_t)n;
	}
	if (len == size) {
		error_set(err, EAGAIN, "the file grew while it was read");
		return NULL;
	}
	buf[len] = '\0';
	*ret_len = len;
	return steal(buf);
}
