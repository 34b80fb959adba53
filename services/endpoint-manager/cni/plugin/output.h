/* Text of any length, what is printed, and waiting with a deadline. */
#pragma once
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Codes of CNI's errors, as the endpoint manager has them (cni_error.ts). */
enum { ERROR_ENVIRONMENT = 4, ERROR_IO = 5, ERROR_DECODE = 6, ERROR_TRY_LATER = 11, ERROR_NOT_AVAILABLE = 50 };

/* As the configuration has it. */
static char cni_version[32] = "1.0.0";

struct buffer {
	char *bytes;
	size_t length, room;
};

static void append(struct buffer *b, const void *bytes, size_t length)
{
	if (b->length + length > b->room) {
		b->room = (b->length + length) * 2;
		b->bytes = realloc(b->bytes, b->room);
		if (!b->bytes)
			abort();
	}
	if (length > 0)
		memcpy(b->bytes + b->length, bytes, length);
	b->length += length;
}

/* Writes all of it, or ends with what has reached the other side. */
static void print(const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t n = write(STDOUT_FILENO, bytes, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		bytes += n;
		length -= (size_t)n;
	}
}

static void append_quoted(struct buffer *b, const char *text, size_t length)
{
	append(b, "\"", 1);
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)text[i];
		char escaped[8];

		if (c == '"' || c == '\\')
			append(b, escaped, (size_t)snprintf(escaped, sizeof(escaped), "\\%c", c));
		else if (c < 0x20)
			append(b, escaped, (size_t)snprintf(escaped, sizeof(escaped), "\\u%04x", c));
		else
			append(b, &text[i], 1);
	}
	append(b, "\"", 1);
}

/* Prints an error as CNI wants it, and ends. */
static _Noreturn __attribute__((format(printf, 2, 3))) void fail(int code, const char *format, ...)
{
	struct buffer b = { 0 };
	char text[2048], head[32];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	append(&b, "{\"cniVersion\":", 14);
	append_quoted(&b, cni_version, strlen(cni_version));
	append(&b, head, (size_t)snprintf(head, sizeof(head), ",\"code\":%d,\"msg\":", code));
	append_quoted(&b, text, strlen(text));
	append(&b, "}\n", 2);
	print(b.bytes, b.length);
	exit(1);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* True when there is something before the deadline. */
static bool wait_for(int fd, short events, int64_t deadline_ms)
{
	for (;;) {
		int64_t left = deadline_ms - now_ms();
		struct pollfd p = { .fd = fd, .events = events };
		int n;

		if (left <= 0)
			return false;
		n = poll(&p, 1, (int)left);
		if (n > 0)
			return true;
		if (n == 0 || errno != EINTR)
			return false;
	}
}

/*
 * Reads until the end. False with errno: ETIMEDOUT, EMSGSIZE for more than `max`, or what read() says.
 */
static bool read_all(int fd, struct buffer *b, size_t max, int64_t deadline_ms)
{
	char part[16384];

	for (;;) {
		ssize_t n;

		if (!wait_for(fd, POLLIN, deadline_ms)) {
			errno = ETIMEDOUT;
			return false;
		}
		n = read(fd, part, sizeof(part));
		if (n == 0)
			return true;
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return false;
		if (b->length + (size_t)n > max) {
			errno = EMSGSIZE;
			return false;
		}
		append(b, part, (size_t)n);
	}
}
