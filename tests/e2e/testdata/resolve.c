/* Asks the C library's resolver for the addresses of names: resolve NAME...; a line for each. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = 0, *one;
		int error = getaddrinfo(argv[i], 0, &hints, &found);

		printf("%s:", argv[i]);
		if (error)
			printf(" error %s", error == EAI_NONAME ? "NONAME" : error == EAI_AGAIN ? "AGAIN" : error == EAI_FAIL ? "FAIL" : "other");
		for (one = found; one; one = one->ai_next) {
			char text[INET6_ADDRSTRLEN];

			getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof(text), 0, 0, NI_NUMERICHOST);
			printf(" %s", text);
		}
		printf("\n");
	}
	return 0;
}
