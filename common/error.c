#include "common/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int code_or_eio(int code)
{
	return code > 0 ? code : EIO;
}

int error_set(struct error *err, int code, const char *fmt, ...)
{
	va_list ap;

	code = code_or_eio(code);
	if (err) {
		err->code = code;
		va_start(ap, fmt);
		vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
		va_end(ap);
	}
	return -code;
}

int error_errno(struct error *err, int code, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	code = code_or_eio(code);
	if (err) {
		err->code = code;
		va_start(ap, fmt);
		vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
		va_end(ap);
		n = strlen(err->msg);
		snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", strerrordesc_np(code));
	}
	return -code;
}

int error_wrap(struct error *err, const char *fmt, ...)
{
	char context[sizeof(err->msg)];
	va_list ap;
	size_t n, tail;

	if (!err)
		return -EIO;
	va_start(ap, fmt);
	vsnprintf(context, sizeof(context) - 2, fmt, ap);
	va_end(ap);
	strcat(context, ": ");

	n = strlen(context);
	tail = strlen(err->msg);
	if (n + tail >= sizeof(err->msg))
		tail = sizeof(err->msg) - 1 - n;
	memmove(err->msg + n, err->msg, tail);
	memcpy(err->msg, context, n);
	err->msg[n + tail] = '\0';
	return -code_or_eio(err->code);
}
