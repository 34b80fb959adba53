/* Which processes of the node are its L7 proxy. Other services are the same user; so the proxy's processes have a control group of their own,
 * which root alone puts anybody into. Whoever is there connects and sends to handles, and to nothing else; nobody else does. */
#pragma once

#include "socket_target.h"

/* Is the process that calls one of the proxy's? */
INLINE int proxy_calls(const struct config *config)
{
	return (__u32)bpf_get_current_uid_gid() == config->proxy_uid &&
	       (!config->proxy_cgroup || bpf_get_current_cgroup_id() == config->proxy_cgroup);
}

/* Is it in the proxy's control group, whoever it is? */
INLINE int proxy_is_confined(const struct config *config)
{
	return config->proxy_cgroup && bpf_get_current_cgroup_id() == config->proxy_cgroup;
}
