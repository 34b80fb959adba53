/*
 * Waits for ever and reaps what ends: the process that holds a pod's namespaces, and the number 1 of a cluster and of each of its
 * nodes. A number 1 gets only signals that it has a handler for.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int number)
{
	(void)number;
	_exit(0);
}

int main(void)
{
	sigset_t children;
	int number;

	signal(SIGTERM, end);
	signal(SIGINT, end);
	/* Blocked and waited for, so that none is missed between reaping and waiting. */
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	sigprocmask(SIG_BLOCK, &children, NULL);
	for (;;) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		sigwait(&children, &number);
	}
}
