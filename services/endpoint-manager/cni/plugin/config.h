/* The few words of the network configuration and of the environment that are meant for the plugin itself. */
#pragma once
#include "output.h"

#define SOCKET_DEFAULT "/run/weir/host/cni.sock"
#define DELETIONS_DEFAULT "/var/lib/weir/host/cni-deletions"

static char socket_path[sizeof(((struct sockaddr_un *)0)->sun_path)] = SOCKET_DEFAULT;
static char deletions_path[1024] = DELETIONS_DEFAULT;

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Takes the value of a key that is meant for this program. One with an escape in it is none of ours. */
static void take(const char *key, size_t key_length, const char *value, size_t length)
{
	static const struct {
		const char *key;
		char *to;
		size_t size;
	} known[] = {
		{ "cniVersion", cni_version, sizeof(cni_version) },
		{ "socket", socket_path, sizeof(socket_path) },
		{ "deletions", deletions_path, sizeof(deletions_path) },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strlen(known[i].key) != key_length || memcmp(known[i].key, key, key_length))
			continue;
		if (length >= known[i].size || memchr(value, '\\', length) || memchr(value, 0, length))
			fail(ERROR_DECODE, "Cannot read the network configuration: %s has %zu bytes or an escape, expected fewer than %zu plain ones",
			     known[i].key, length, known[i].size);
		memcpy(known[i].to, value, length);
		known[i].to[length] = 0;
	}
}

/*
 * Finds strings that are members of the outermost object. Whether the rest is JSON is the endpoint manager's to judge; here it
 * counts only that no string further inside, such as a pod's annotation, is taken for one of ours.
 */
static void read_config(const char *text, size_t length)
{
	const char *key = NULL;
	size_t key_length = 0;
	bool is_value = false;
	int depth = 0;

	for (size_t i = 0; i < length; i++) {
		char c = text[i];

		if (c == '{' || c == '[') {
			depth++;
			is_value = false;
		} else if (c == '}' || c == ']') {
			depth--;
		} else if (c == ',') {
			key = NULL;
			is_value = false;
		} else if (c == ':') {
			is_value = true;
		} else if (c == '"') {
			size_t start = ++i;

			while (i < length && text[i] != '"')
				i += text[i] == '\\' ? 2 : 1;
			if (i >= length)
				return;
			if (depth != 1)
				continue;
			if (is_value && key) {
				take(key, key_length, text + start, i - start);
			} else if (!is_value) {
				key = text + start;
				key_length = i - start;
			}
		} else if (!is_space(c)) {
			is_value = false;
		}
	}
}

/* A path of the environment goes before the configuration's. */
static void override(const char *name, char *to, size_t size)
{
	const char *value = getenv(name);

	if (!value || !*value)
		return;
	if (strlen(value) >= size)
		fail(ERROR_ENVIRONMENT, "Cannot take %s: it has %zu bytes, expected fewer than %zu", name, strlen(value), size);
	strcpy(to, value);
}
