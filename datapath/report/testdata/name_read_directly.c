/* A pointer to characters has no struct that says how many there are. */
#include "kernel/types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

SEC("fentry/vfs_read")
int BPF_PROG(first_letter, struct file *file)
{
	const unsigned char *name = file->f_path.dentry->d_name.name;

	if (name[0] == '.')
		bpf_printk("hidden");
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
