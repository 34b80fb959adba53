/* One question to the endpoint manager: HTTP/1.0 on a unix socket, protobuf both ways. */
#pragma once
#include "config.h"

#define VALUE_BYTES_MAX (32u << 10) /* of one variable */
#define ANSWER_BYTES_MAX (4u << 20)
#define CONNECT_PAUSE_MS 50

/* How long a command may take: until somebody listens, and in all. The endpoint manager's own deadlines are shorter. */
struct command {
	const char *name, *path;
	int connect_ms, total_ms;
};

/* A field of protobuf's: tag, length, bytes. Empty ones are left out. */
static void append_field(struct buffer *b, unsigned field, const char *bytes, size_t length)
{
	unsigned char varint[10];
	size_t n = 0, rest = length;
	unsigned char tag = (unsigned char)(field << 3 | 2);

	if (length == 0)
		return;
	append(b, &tag, 1);
	do {
		varint[n++] = (unsigned char)((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
		rest >>= 7;
	} while (rest > 0);
	append(b, varint, n);
	append(b, bytes, length);
}

static void append_variable(struct buffer *b, unsigned field, const char *name)
{
	const char *value = getenv(name);

	if (!value)
		return;
	if (strlen(value) > VALUE_BYTES_MAX)
		fail(ERROR_ENVIRONMENT, "Cannot take %s: it has %zu bytes, expected at most %u", name, strlen(value), VALUE_BYTES_MAX);
	append_field(b, field, value, strlen(value));
}

/* weir.endpoint.v1.CniRequest */
static struct buffer request_of(const struct buffer *config)
{
	struct buffer b = { 0 };

	append_variable(&b, 1, "CNI_CONTAINERID");
	append_variable(&b, 2, "CNI_NETNS");
	append_variable(&b, 3, "CNI_IFNAME");
	append_variable(&b, 4, "CNI_ARGS");
	if (config)
		append_field(&b, 5, config->bytes, config->length);
	append_field(&b, 6, WEIR_VERSION, strlen(WEIR_VERSION));
	return b;
}

/* A connection to the endpoint manager; -1 with errno. */
static int connect_within(int64_t connect_deadline_ms, int64_t deadline_ms)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	strcpy(address.sun_path, socket_path);
	for (;;) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error;
		bool is_full;

		if (fd < 0)
			return -1;
		/* On a unix socket this is done at once, or refused: EAGAIN says that too many wait already. */
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			return fd;
		error = errno;
		close(fd);
		errno = error;
		is_full = error == EAGAIN;
		if (now_ms() >= (is_full ? deadline_ms : connect_deadline_ms) ||
		    (!is_full && error != ENOENT && error != ECONNREFUSED))
			return -1;
		usleep(CONNECT_PAUSE_MS * 1000);
	}
}

static bool send_all(int fd, const char *bytes, size_t length, int64_t deadline_ms)
{
	while (length > 0) {
		ssize_t n;

		if (!wait_for(fd, POLLOUT, deadline_ms)) {
			errno = ETIMEDOUT;
			return false;
		}
		n = send(fd, bytes, length, MSG_NOSIGNAL);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return false;
		bytes += n;
		length -= (size_t)n;
	}
	return true;
}

/* Did the other side close while there was still something to send to it? */
static bool is_closed(int error)
{
	return error == EPIPE || error == ECONNRESET;
}

/* Why there is no answer, for people; "" when there is one. */
static char reason[1024];

/* Asks, and reads all of the answer. False with `reason`. */
static bool ask(const struct command *command, const struct buffer *request, struct buffer *answer)
{
	int64_t start_ms = now_ms(), deadline_ms = start_ms + command->total_ms;
	int fd = connect_within(start_ms + command->connect_ms, deadline_ms);
	char head[512];
	bool is_sent;
	int n;

	if (fd < 0) {
		snprintf(reason, sizeof(reason), "nobody answers on %s (%s)", socket_path, strerror(errno));
		return false;
	}
	/* HTTP/1.0: the answer ends with the connection, and is never in chunks. */
	n = snprintf(head, sizeof(head),
		     "POST %s HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
		     "Accept: application/x-protobuf\r\nContent-Length: %zu\r\n\r\n",
		     command->path, request->length);
	/* Who has heard enough may answer and close before all is sent: what it said counts. */
	is_sent = (send_all(fd, head, (size_t)n, deadline_ms) && send_all(fd, request->bytes, request->length, deadline_ms)) ||
		  is_closed(errno);
	if (!is_sent || !(read_all(fd, answer, ANSWER_BYTES_MAX, deadline_ms) || (answer->length > 0 && is_closed(errno)))) {
		snprintf(reason, sizeof(reason), "the endpoint manager did not answer on %s (%s)", socket_path, strerror(errno));
		close(fd);
		return false;
	}
	close(fd);
	return true;
}

static bool read_varint(const unsigned char **at, const unsigned char *end, uint64_t *value)
{
	*value = 0;
	for (int shift = 0; shift < 64 && *at < end; shift += 7) {
		unsigned char byte = *(*at)++;

		*value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return true;
	}
	return false;
}

/* weir.endpoint.v1.CniAnswer. Fields that are not known are of a newer endpoint manager. False: it is none. */
static bool read_answer(const char *bytes, size_t length, uint64_t *exit_code, const char **output, size_t *output_length)
{
	const unsigned char *at = (const unsigned char *)bytes, *end = at + length;

	while (at < end) {
		uint64_t tag, value;

		if (!read_varint(&at, end, &tag) || !read_varint(&at, end, &value))
			return false;
		if ((tag & 7) == 0) {
			if (tag >> 3 == 1)
				*exit_code = value;
			continue;
		}
		if ((tag & 7) != 2 || value > (uint64_t)(end - at))
			return false;
		if (tag >> 3 == 2) {
			*output = (const char *)at;
			*output_length = value;
		}
		at += value;
	}
	return true;
}

/* Prints what was answered and ends; comes back with `reason` when it is no answer to this. */
static void finish(const struct buffer *answer)
{
	const char *body, *output = "";
	size_t output_length = 0, head_length;
	uint64_t exit_code = 0;
	int status = 0;

	body = answer->length > 0 ? memmem(answer->bytes, answer->length, "\r\n\r\n", 4) : NULL;
	if (!body) {
		snprintf(reason, sizeof(reason), "the endpoint manager broke off its answer on %s", socket_path);
		return;
	}
	body += 4;
	head_length = (size_t)(body - answer->bytes);
	/* "HTTP/1.1 200 OK" */
	if (head_length > 12 && !memcmp(answer->bytes, "HTTP/1.", 7))
		for (int i = 9; i < 12; i++)
			status = status * 10 + (answer->bytes[i] - '0');
	if (status != 200) {
		snprintf(reason, sizeof(reason), "the endpoint manager answered HTTP %d: %.*s", status,
			 (int)(answer->length - head_length > 500 ? 500 : answer->length - head_length), body);
		return;
	}
	if (!read_answer(body, answer->length - head_length, &exit_code, &output, &output_length)) {
		snprintf(reason, sizeof(reason), "the endpoint manager's answer cannot be read (%zu bytes)", answer->length - head_length);
		return;
	}
	print(output, output_length);
	exit(exit_code == 0 ? 0 : 1);
}
