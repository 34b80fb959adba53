/* One object with every program, so that they share their maps and the helpers that are not inlined. */
#include "bpf_lxc.c"
#include "bpf_overlay.c"
#include "bpf_host.c"
#include "bpf_gc.c"
#include "bpf_trouble.c"
#include "bpf_cgroup.c"
#include "bpf_socket.c"
#include "bpf_xdp.c"

char LICENSE[] SEC("license") = "GPL";
