// accepted: an iterator over sockets ends those of one family.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct sock_common { unsigned short skc_family; } __attribute__((preserve_access_index));
struct bpf_iter__tcp { void *meta; struct sock_common *sk_common; };
extern int bpf_sock_destroy(struct sock_common *sk) __ksym;
SEC("iter/tcp") int end_family(struct bpf_iter__tcp *ctx) {
  struct sock_common *sk = ctx->sk_common;
  if (sk && sk->skc_family == 10) bpf_sock_destroy(sk);
  return 0;
}
char _license[] SEC("license") = "GPL";
