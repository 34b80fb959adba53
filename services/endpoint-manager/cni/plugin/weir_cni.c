/*
 * weir-cni: what a container runtime runs to give a pod its network. It decides nothing: it hands its environment and its standard
 * input to the endpoint manager and prints what that answers.
 *
 *     runtime ──stdin, CNI_*──▶ weir-cni ──POST /v1/cni:add──▶ cni.sock (endpoint manager) ──▶ {exit code, text to print}
 *                                  └─ DEL, nobody answers ──▶ a file in the queue ──▶ played back by the endpoint manager
 *
 * Where the socket and the queue are: `socket` and `deletions` of the network configuration, WEIR_CNI_SOCKET and
 * WEIR_CNI_DELETIONS before those, the defaults below after them. It makes no thread and no child, and every wait has an end.
 */
#include "deletions.h"

/* The build says these: versions.ts and the version of Weir. */
#ifndef CNI_VERSIONS
#error "CNI_VERSIONS is not defined: build with build.ts"
#endif

#define CONFIG_BYTES_MAX (4u << 20)
#define STDIN_MS_MAX 10000

static const struct command commands[] = {
	/* An agent that is being replaced is there again within seconds. */
	{ "ADD", "/v1/cni:add", 10000, 100000 },
	{ "DEL", "/v1/cni:del", 0, 40000 },
	{ "CHECK", "/v1/cni:check", 0, 30000 },
	{ "GC", "/v1/cni:gc", 0, 90000 },
	{ "STATUS", "/v1/cni:status", 0, 10000 },
};

int main(void)
{
	const char *name = getenv("CNI_COMMAND");
	const struct command *command = NULL;
	struct buffer config = { 0 }, request, answer = { 0 };

	if (!name || !*name) {
		fprintf(stderr, "weir-cni %s: the CNI plugin of Weir, for container runtimes; it speaks CNI %s\n", WEIR_VERSION, CNI_VERSIONS);
		return 1;
	}
	if (!read_all(STDIN_FILENO, &config, CONFIG_BYTES_MAX, now_ms() + STDIN_MS_MAX))
		fail(ERROR_IO, "Cannot read the network configuration from standard input: %s",
		     errno == EMSGSIZE ? "it has more than 4194304 bytes" : strerror(errno));
	read_config(config.bytes, config.length);
	override("WEIR_CNI_SOCKET", socket_path, sizeof(socket_path));
	override("WEIR_CNI_DELETIONS", deletions_path, sizeof(deletions_path));
	/* Asked at times when no agent is there yet. */
	if (!strcmp(name, "VERSION")) {
		struct buffer b = { 0 };

		append(&b, "{\"cniVersion\":", 14);
		append_quoted(&b, cni_version, strlen(cni_version));
		append(&b, ",\"supportedVersions\":[" CNI_VERSIONS "]}\n", sizeof(",\"supportedVersions\":[" CNI_VERSIONS "]}\n") - 1);
		print(b.bytes, b.length);
		return 0;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(name, commands[i].name))
			command = &commands[i];
	if (!command)
		fail(ERROR_ENVIRONMENT, "Cannot do %.40s: expected CNI_COMMAND to be ADD, DEL, CHECK, GC, STATUS or VERSION", name);
	request = request_of(&config);
	if (ask(command, &request, &answer))
		finish(&answer);
	if (!strcmp(name, "DEL"))
		queue_deletion();
	fail(!strcmp(name, "STATUS") ? ERROR_NOT_AVAILABLE : ERROR_TRY_LATER, "Cannot %s: %s; see weir status on this node", name, reason);
}
