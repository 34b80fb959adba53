/* Deletions that wait for the endpoint manager, each in a file. */
#pragma once
#include "exchange.h"

#define DELETIONS_MAX 4096 /* in the queue */

/* How many files wait, those that are being written too; -1 with errno. */
static int count_deletions(int directory)
{
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), count = 0;
	DIR *list = fd < 0 ? NULL : fdopendir(fd);

	if (!list)
		return -1;
	for (struct dirent *entry; (entry = readdir(list));)
		count += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	closedir(list);
	return count;
}

static bool write_deletion(int directory, const char *name, const struct buffer *request)
{
	int fd = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	size_t done = 0;
	bool ok;

	if (fd < 0)
		return false;
	while (done < request->length) {
		ssize_t n = write(fd, request->bytes + done, request->length - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	/* Whatever the umask is: the endpoint manager is another user. */
	ok = done == request->length && fchmod(fd, 0644) == 0 && fsync(fd) == 0;
	close(fd);
	return ok;
}

/*
 * Nobody answers: the deletion waits in the queue until the endpoint manager is there again. A file gets its name when all of it
 * is on the disk; the names are in the order of the deletions.
 */
static _Noreturn void queue_deletion(void)
{
	struct buffer request = request_of(NULL);
	char name[64], temporary[80];
	struct timespec t;
	int directory = open(deletions_path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), count;

	/* Nothing of Weir is on this host any more: there is nothing to delete, and pods must be able to go. */
	if (directory < 0 && errno == ENOENT)
		exit(0);
	count = directory < 0 ? -1 : count_deletions(directory);
	if (count < 0)
		fail(ERROR_IO, "Cannot delete: %s, and the queue %s cannot be opened: %s", reason, deletions_path, strerror(errno));
	if (count >= DELETIONS_MAX)
		fail(ERROR_TRY_LATER, "Cannot delete: %s, and the queue %s holds %d of %d deletions", reason, deletions_path, count, DELETIONS_MAX);
	clock_gettime(CLOCK_REALTIME, &t);
	snprintf(name, sizeof(name), "%016llx-%08x", (unsigned long long)t.tv_sec * 1000000000ull + (unsigned long long)t.tv_nsec,
		 (unsigned)getpid());
	snprintf(temporary, sizeof(temporary), ".%s.tmp", name);
	if (!write_deletion(directory, temporary, &request) || renameat(directory, temporary, directory, name) || fsync(directory)) {
		int error = errno;

		unlinkat(directory, temporary, 0);
		fail(ERROR_IO, "Cannot delete: %s, and nothing can be written to the queue %s: %s", reason, deletions_path, strerror(error));
	}
	exit(0);
}
