/* Both ends of the services benchmark; built when it runs.
 *
 *   load server PORT COUNT                 listens on COUNT ports from PORT on, echoes one byte, closes when told
 *   load client ADDRESS PORT MS            prints one JSON line: connects (connect + 1 byte + close) for MS milliseconds,
 *                                          then request-response on one connection for MS / 2
 *   load wait PINS ADDRESS PORT            prints the number of backends that the kernel has for a frontend of endpoints, waits
 *                                          for another number, prints it with the time (Unix, ns); frontends on TCP, IPv4
 *
 * The server closes first, so that the client's ports are free at once.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static long long now_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static struct sockaddr_in address_of(const char *text, int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	if (inet_pton(AF_INET, text, &a.sin_addr) != 1)
		die(text);
	return a;
}

/* ---- server ---- */

_Noreturn static void server(int port, int count)
{
	int poll = epoll_create1(0), one = 1;
	for (int i = 0; i < count; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		struct sockaddr_in a = address_of("0.0.0.0", port + i);
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 1024))
			die("listen");
		/* Listeners have bit 31 of their data set. */
		struct epoll_event e = { .events = EPOLLIN, .data.u32 = fd | 0x80000000u };
		epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e);
	}
	for (;;) {
		struct epoll_event events[64];
		int n = epoll_wait(poll, events, 64, -1);
		for (int i = 0; i < n; i++) {
			unsigned fd = events[i].data.u32;
			if (fd & 0x80000000u) {
				int c = accept(fd & 0x7fffffff, NULL, NULL);
				if (c < 0)
					continue;
				setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
				struct epoll_event e = { .events = EPOLLIN, .data.u32 = c };
				epoll_ctl(poll, EPOLL_CTL_ADD, c, &e);
				continue;
			}
			char byte;
			ssize_t got = read(fd, &byte, 1);
			/* 'q' is a question of a connection that ends with its answer. */
			if (got != 1 || write(fd, &byte, 1) != 1 || byte == 'q')
				close(fd);
		}
	}
}

/* ---- client ---- */

static int dial(const struct sockaddr_in *to)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	struct timeval limit = { .tv_sec = 3 };
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)))
		die("connect");
	return fd;
}

static int by_size(const void *a, const void *b)
{
	long long x = *(const long long *)a, y = *(const long long *)b;
	return x < y ? -1 : x > y;
}

static long long samples[1 << 20];

static void print(const char *name, int n)
{
	qsort(samples, n, sizeof(samples[0]), by_size);
	printf("\"%s\":{\"p50\":%.2f,\"p99\":%.2f}", name, samples[n / 2] / 1e3, samples[n * 99ll / 100] / 1e3);
}

static int client(const char *host, int port, int ms)
{
	struct sockaddr_in to = address_of(host, port);
	char byte;
	int n = 0;
	for (int i = 0; i < 20; i++)
		close(dial(&to));
	long long begun = now_ns(CLOCK_MONOTONIC), at = begun, end = begun + ms * 1000000ll;
	while (at < end && n < 1 << 20) {
		int fd = dial(&to);
		if (write(fd, "q", 1) != 1 || read(fd, &byte, 1) != 1)
			die("answer");
		/* The server's end of the stream: it has closed first. */
		if (read(fd, &byte, 1) != 0)
			die("end");
		close(fd);
		long long after = now_ns(CLOCK_MONOTONIC);
		samples[n++] = after - at;
		at = after;
	}
	printf("{\"rate\":%.0f,", n * 1e9 / (at - begun));
	print("crr", n);
	int fd = dial(&to);
	n = 0;
	at = now_ns(CLOCK_MONOTONIC);
	end = at + ms * 500000ll;
	while (at < end && n < 1 << 20) {
		if (write(fd, "x", 1) != 1 || read(fd, &byte, 1) != 1)
			die("answer");
		long long after = now_ns(CLOCK_MONOTONIC);
		samples[n++] = after - at;
		at = after;
	}
	printf(",");
	print("rr", n);
	printf("}\n");
	return 0;
}

/* ---- what the kernel's maps say of one service ---- */

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(__NR_bpf, command, attr, sizeof(*attr));
}

static int pinned(const char *directory, const char *name)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	union bpf_attr attr = { .pathname = (unsigned long)path };
	int fd = bpf(BPF_OBJ_GET, &attr);
	if (fd < 0)
		die(path);
	return fd;
}

static int lookup(int map, const void *key, void *value)
{
	union bpf_attr attr = { .map_fd = map, .key = (unsigned long)key, .value = (unsigned long)value };
	return bpf(BPF_MAP_LOOKUP_ELEM, &attr);
}

static int wait_backends(const char *pins, const char *host, int port)
{
	/* struct frontend_key and struct frontend of datapath/bpf/lib/abi_service.h */
	struct { unsigned char address[16]; unsigned short port; unsigned char protocol, pad; unsigned pad2; } key = { 0 };
	struct { unsigned selections[2]; unsigned rest[4]; } frontend;
	struct sockaddr_in a = address_of(host, port);
	key.address[10] = key.address[11] = 0xff;
	memcpy(key.address + 12, &a.sin_addr, 4);
	key.port = a.sin_port;
	key.protocol = IPPROTO_TCP;
	int frontends = pinned(pins, "weir_frontends"), selections = pinned(pins, "weir_selections");
	long before = -1;
	for (long long end = now_ns(CLOCK_MONOTONIC) + 30000000000ll; now_ns(CLOCK_MONOTONIC) < end; usleep(30)) {
		unsigned id, zero = 0, header;
		if (lookup(frontends, &key, &frontend))
			continue;
		long count = 0;
		if (frontend.selections[0] && lookup(selections, &frontend.selections[0], &id) == 0) {
			union bpf_attr attr = { .map_id = id };
			int inner = bpf(BPF_MAP_GET_FD_BY_ID, &attr);
			if (inner < 0 || lookup(inner, &zero, &header))
				continue;
			close(inner);
			count = header & 0x7fffffff;
		}
		if (before < 0) {
			printf("%ld\n", count);
			fflush(stdout);
			before = count;
		} else if (count != before) {
			printf("%ld %lld\n", count, now_ns(CLOCK_REALTIME));
			return 0;
		}
	}
	errno = ETIMEDOUT;
	die("wait");
	return 1;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "server") == 0)
		server(atoi(argv[2]), atoi(argv[3]));
	if (argc == 5 && strcmp(argv[1], "client") == 0)
		return client(argv[2], atoi(argv[3]), atoi(argv[4]));
	if (argc == 5 && strcmp(argv[1], "wait") == 0)
		return wait_backends(argv[2], argv[3], atoi(argv[4]));
	fprintf(stderr, "load server PORT COUNT | load client ADDRESS PORT MS | load wait PINS ADDRESS PORT\n");
	return 2;
}
