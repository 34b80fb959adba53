// WV0104: as socket_destroyed.c, but the last round has no socket.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct sock_common { unsigned short skc_family; } __attribute__((preserve_access_index));
struct bpf_iter__tcp { void *meta; struct sock_common *sk_common; };
extern int bpf_sock_destroy(struct sock_common *sk) __ksym;
SEC("iter/tcp") int end_all(struct bpf_iter__tcp *ctx) {
  bpf_sock_destroy(ctx->sk_common);
  return 0;
}
char _license[] SEC("license") = "GPL";
