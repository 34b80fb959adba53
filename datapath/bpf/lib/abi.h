/* Everything that programs and user space share: map keys and values, events, requests, numbers.
 *
 * Byte order: addresses are in network order; v4 addresses in 16-byte fields are v4-mapped (::ffff:a.b.c.d).
 * Fields of type __be16 and __be32 are in network order (their codecs show numbers as people write them, and end in Be);
 * everything else is in the host's order.
 * Padding is named `pad*` and must be zero. Numbers are append-only; retired ones stay as `unused`.
 */
#pragma once

#include <stddef.h>

#include <linux/types.h>

#include "../gen/numbers.h" /* DROP_*, TRACE_*, EVENT_*, ...: from proto/numbers */

#define WEIR_ABI_VERSION 2

#define ENDPOINTS_MAX 4096 /* ids 1..4094; record 0 stays empty */
#define ENDPOINT_HOST 4095 /* the node itself, while a policy selects it: its record has a policy and no device */
#define POLICY_SLOTS_MAX 8192 /* slot 0 enforces nothing and stays empty */
#define SHAPES_MAX 18

struct address {
	union {
		__u8 bytes[16];
		__u32 words[4];
		__u64 halves[2];
	};
};
_Static_assert(sizeof(struct address) == 16, "address");

/* ---- node configuration ------------------------------------------------------------------------------------ */

#define CONFIG_TUNNEL 1 /* remote pods are reached through the VXLAN device */
#define CONFIG_DIRECT 2 /* remote pods are reached by plain routing */
#define CONFIG_REDIRECT_NEIGH 4 /* direct routing skips the host's stack: redirect_neigh to outer_ifindex */
#define CONFIG_NO_FRAGMENTS 8 /* every fragment is dropped with reason 157 */
#define CONFIG_MASQUERADE_V4 16 /* what endpoints send out of the cluster takes the node's address */
#define CONFIG_MASQUERADE_V6 32
#define CONFIG_NO_BACKEND_DROP 64 /* a service without backends: drop (158); else the sender is told at once */
#define CONFIG_NO_SOCKET_LB 128 /* sockets are hooked for the proxy's sake only: services are not translated at them */

/* weir_config[0]
 *
 *   0  flags            4  hz               8  tunnel_ifindex   12  outer_ifindex
 *  16  ipv4 (be)       20  gateway_ipv4(be) 24  world_v4        28  world_v6
 *  32  ipv6 .......................................................................
 *  48  gateway_ipv6 ...............................................................
 *  64  mtu             68  tunnel_port|aggregation|pad          72  timeout_tcp     76  timeout_syn
 *  80  timeout_closing 84  timeout_other   88  report_interval  92  nat_port_min|nat_port_max
 *  96  loopback_ipv6 .............................................................. 112 loopback_ipv4 (be) 116 timeout_unanswered
 * 120  netns_cookie                            128  handle_ipv4 (be)  132 handle_mask_ipv4
 * 136  handle_ipv6 (first half)              144  proxy_uid       148  proxy_port|proxy_sockets
 * 152  proxy_cgroup
 */
struct config {
	__u32 flags;
	__u32 hz; /* jiffies per second, see program weir_clock; 0: not configured, everything is dropped (165) */
	__u32 tunnel_ifindex; /* collect-metadata VXLAN device */
	__u32 outer_ifindex;
	__be32 ipv4; /* be: this node's underlay address */
	__be32 gateway_ipv4; /* be: ARP for it is answered */
	__u32 world_v4; /* identity of v4 addresses that no prefix covers: 9 in dual stack, else 2 */
	__u32 world_v6; /* 10 or 2 */
	struct address ipv6;
	struct address gateway_ipv6;
	__u32 mtu;
	__u16 tunnel_port; /* host order, 8472; pods must not send UDP to it (170) */
	__u8 aggregation; /* 0 a trace for every packet .. 3 first packet, flag changes, every report_interval */
	__u8 pad;
	__u32 timeout_tcp; /* s: 8000 */
	__u32 timeout_syn; /* s: 60 */
	__u32 timeout_closing; /* s: 10 */
	__u32 timeout_other; /* s: 60 */
	__u32 report_interval; /* s: 5 */
	__u16 nat_port_min; /* host order, 32768: ports that translated sources get */
	__u16 nat_port_max; /* 65535 */
	struct address loopback_ipv6; /* who an endpoint is to itself when a service leads it back: fd00:... */
	__be32 loopback_ipv4; /* be: 169.254.42.1 */
	__u32 timeout_unanswered; /* s: 30, of what is not TCP and had no answer yet; TCP: timeout_syn */
	__u64 netns_cookie; /* of the node's own network namespace: only its sockets are translated; 0: none */
	__be32 handle_ipv4; /* be: prefix of handle addresses; lib/handle.h */
	__u32 handle_mask_ipv4; /* host order: its bits that a handle's number fills; 0: no handles over IPv4 */
	__u64 handle_ipv6; /* first half of handle addresses as it lies in memory; 0: none over IPv6 */
	__u32 proxy_uid; /* who may connect to a handle */
	__u16 proxy_port; /* host order; 0: there is no proxy, and redirects are refused (178) */
	__u16 proxy_sockets; /* its sockets for datagrams, at proxy_port and the ports behind it, PROXY_SOCKETS_MAX at most; 0: one */
	__u64 proxy_cgroup; /* id of the control group whose processes are the proxy, see lib/proxy_process.h; 0: whoever is proxy_uid may be */
};
_Static_assert(sizeof(struct config) == 160, "config");
_Static_assert(offsetof(struct config, ipv6) == 32, "config.ipv6");
_Static_assert(offsetof(struct config, timeout_tcp) == 72, "config.timeout_tcp");
_Static_assert(offsetof(struct config, netns_cookie) == 120, "config.netns_cookie");
_Static_assert(offsetof(struct config, proxy_cgroup) == 152, "config.proxy_cgroup");

/* weir_state[0]
 *
 *   0  ipcache_revision   4  frontends_revision
 */
struct state {
	__u32 ipcache_revision; /* unused */
	__u32 frontends_revision; /* grows after each change of weir_frontends */
};
_Static_assert(sizeof(struct state) == 8, "state");

/* weir_revisions[REVISIONS_MAX]: u32 that grow with changes of the ipcache and of the node's addresses. Each address has one
 * element, the same for all its neighbours in parts, so that a changed prefix is few elements too (lib/revision.h):
 *
 *   13 .. 10  hash of the wide block (v4: /8, v6: /32)  9 .. 5  of the block (v4: /24, v6: /64)  4 .. 0  of the address
 */
#define REVISIONS_MAX 16384

/* Key of weir_vlans: the tagged frames of an outer device that pass it.  0 ifindex  4 vlan (1..4094)  6 pad */
struct vlan_key {
	__u32 ifindex;
	__u16 vlan;
	__u16 pad;
};
_Static_assert(sizeof(struct vlan_key) == 8, "vlan_key");

/* ---- endpoints --------------------------------------------------------------------------------------------- */

#define ENDPOINT_PEER 1 /* veth whose peer is in a namespace: deliver by redirect_peer; else redirect (tap) */
#define ENDPOINT_NO_SOURCE_CHECK 2 /* may send from any address that is not another endpoint's or the host's */
#define ENDPOINT_CGROUP 4 /* sockets of a cgroup: no device, its address is the host's */

/* weir_endpoints[id]
 *
 *   0  ifindex          4  identity         8  revision        12  policy  14  flags
 *  16  mac[6], host_mac[6] ......................... 28 wire
 *  32  ipv4 (be)       36  netns           40  ipv6 ................................
 *  56  cgroup_id
 */
struct endpoint {
	__u32 ifindex; /* host side; 0: no such endpoint, or a cgroup */
	__u32 identity;
	__u32 revision; /* +1 when policy, identity or addresses change; goes on when the id is used anew */
	__u16 policy; /* slot; 0: nothing is enforced */
	__u16 flags;
	__u8 mac[6]; /* inside: destination of delivered frames */
	__u8 host_mac[6]; /* of the host side: source of delivered frames, the gateway's address */
	__u32 wire; /* identity before, which its tunnel packets name until every node knows of the one now; 0: that */
	__be32 ipv4; /* be; 0: none */
	__u32 netns; /* id that this node's network namespace has for the endpoint's, plus one; 0: unknown */
	struct address ipv6; /* zero: none */
	__u64 cgroup_id;
};
_Static_assert(sizeof(struct endpoint) == 64, "endpoint");
_Static_assert(offsetof(struct endpoint, mac) == 16, "endpoint.mac");
_Static_assert(offsetof(struct endpoint, ipv6) == 40, "endpoint.ipv6");
_Static_assert(offsetof(struct endpoint, cgroup_id) == 56, "endpoint.cgroup_id");

#define ADDRESS_HOST 1 /* one of this node's own addresses, the gateways included */
#define ADDRESS_BROADCAST 2 /* of a network that this node is in: everybody there, this node included */

/* weir_addresses[struct address]: addresses of this node.  0 endpoint  2 flags  4 pad */
struct address_owner {
	__u16 endpoint; /* 0 with ADDRESS_* */
	__u16 flags;
	__u32 pad;
};
_Static_assert(sizeof(struct address_owner) == 8, "address_owner");

/* weir_counters[id], per CPU.  0 tx_packets  8 tx_bytes  16 rx_packets  24 rx_bytes  32 dropped_packets  40 dropped_bytes
 * tx is what the endpoint sent and may send, rx what was delivered to it. */
struct endpoint_counters {
	__u64 tx_packets;
	__u64 tx_bytes;
	__u64 rx_packets;
	__u64 rx_bytes;
	__u64 dropped_packets;
	__u64 dropped_bytes;
};
_Static_assert(sizeof(struct endpoint_counters) == 48, "endpoint_counters");

/* ---- ipcache ----------------------------------------------------------------------------------------------- */

/* Key of weir_ipcache (LPM trie).  0 prefixlen (v4: 96 + length)   4 address */
struct ipcache_prefix {
	__u32 prefixlen;
	__u8 address[16];
};
_Static_assert(sizeof(struct ipcache_prefix) == 20, "ipcache_prefix");

#define IPCACHE_SKIP_TUNNEL 1 /* to the stack even in tunnel mode */

/* Value of weir_ipcache and weir_ipcache_exact.  0 identity  4 flags  6 moved_from  8 node ........ */
struct ipcache_entry {
	__u32 identity;
	__u16 flags;
	__u16 moved_from; /* lower half of the identity before (the upper is its cluster's), which its tunnel packets may still name; 0: none */
	struct address node; /* underlay address of the node that has it; zero: this node or the world */
};
_Static_assert(sizeof(struct ipcache_entry) == 24, "ipcache_entry");

/* ---- policy ------------------------------------------------------------------------------------------------ */

#define POLICY_INGRESS 0
#define POLICY_EGRESS 1

/* Key of an inner map of weir_policies.  0 identity  4 port  6 protocol  7 shape
 *
 * shape = direction << 7 | audit << 6 | any_protocol << 5 | port prefix length (0..16)
 * audit: of policies in audit mode, whose entries are looked up beside the others; their default deny is one of them.
 * port: host order (ICMP: the type), bits beyond the prefix zero; protocol 0 with any_protocol. */
struct policy_key {
	__u32 identity; /* 0: any */
	__u16 port;
	__u8 protocol;
	__u8 shape;
};
_Static_assert(sizeof(struct policy_key) == 8, "policy_key");
#define SHAPE_EGRESS 0x80
#define SHAPE_AUDIT 0x40
#define SHAPE_ANY_PROTOCOL 0x20
#define SHAPE_LENGTH 0x1f

#define POLICY_ENTRY_DENY 1
#define POLICY_ENTRY_ADDRESSES 2 /* some destinations have entries of their own, see policy_destination */
#define POLICY_ENTRY_NOBODY 4 /* ... and for the others there is none */
#define POLICY_ENTRY_REDIRECT 8 /* allowed by way of the proxy, which judges each request */
#define POLICY_ENTRY_DEFAULT 16 /* the default deny of policies in audit mode */
#define POLICY_ENTRY_BEFORE 32 /* what decides comes before ordinary policies: those in audit mode are not asked */
#define POLICY_ENTRY_BEHIND 64 /* ... comes behind them: a default deny of theirs would come before it */

/* Value of an inner map.  0 precedence  4 cookie  8 pad  10 flags  11 stands_for */
struct policy_entry {
	__u32 precedence;
	__u32 cookie;
	__u16 pad;
	__u8 flags;
	__u8 stands_for; /* with ADDRESSES: 1 + match length of the shorter entry that this one repeats; else 0 */
};
_Static_assert(sizeof(struct policy_entry) == 12, "policy_entry");

/* weir_policy_destinations[address]: where endpoints of one identity differ in what a port name means, those with entries
 * of their own have a number. It stands for the identity in their entries, which are for egress and whole ports.
 *   0 number  4 identity: an address that became somebody else's has none of these entries */
struct policy_destination {
	__u32 number; /* DESTINATION_FIRST and up: no identity */
	__u32 identity;
};
_Static_assert(sizeof(struct policy_destination) == 8, "policy_destination");
#define DESTINATION_FIRST 0x80000000u

/* Which shapes one direction of a policy uses, most specific first: port prefixes from long to short, then
 * SHAPE_ANY_PROTOCOL. Only these are probed.
 *
 *   0  enforce   1  identity_shapes_count   2  any_shapes_count   3  flags   4  default_cookie
 *   8  identity_shapes[18]   26  any_shapes[18]   44 end
 */
#define POLICY_DIRECTION_REDIRECTS 1 /* there are entries with POLICY_ENTRY_REDIRECT */
#define POLICY_DIRECTION_AUDITED 2 /* there are entries with SHAPE_AUDIT */
#define POLICY_DIRECTION_AUDIT 4 /* the endpoint is in audit mode: what its policy denies passes, and is reported */
struct policy_direction {
	__u8 enforce; /* 0: everything is allowed in this direction */
	__u8 identity_shapes_count; /* shapes of entries with a remote identity */
	__u8 any_shapes_count; /* shapes of entries for any identity */
	__u8 flags; /* POLICY_DIRECTION_* */
	__u32 default_cookie; /* cookie of the default deny */
	__u8 identity_shapes[SHAPES_MAX]; /* without direction and audit bits; of entries with and without SHAPE_AUDIT together */
	__u8 any_shapes[SHAPES_MAX];
};
_Static_assert(sizeof(struct policy_direction) == 44, "policy_direction");

/* weir_policy_slots[slot].  0 directions[POLICY_INGRESS]  44 directions[POLICY_EGRESS] */
struct policy_slot {
	struct policy_direction directions[2];
};
_Static_assert(sizeof(struct policy_slot) == 88, "policy_slot");

/* ---- conntrack --------------------------------------------------------------------------------------------- */

/* Key of weir_ct: both directions of a flow have one key; `lo` is the numerically smaller of the two
 * (address halves compared as they lie in memory, then the port).
 *
 *   0  lo ..........................................................................
 *  16  hi ..........................................................................
 *  32  port_lo (be)  34  port_hi (be)  36  protocol  37 scope  38 pad[2]
 *
 * ICMP echo: the asking side has the echo id as its port, the other side 0. */
struct ct_key {
	struct address lo;
	struct address hi;
	__be16 port_lo;
	__be16 port_hi;
	__u8 protocol;
	__u8 scope; /* CT_SCOPE_* */
	__u8 pad[2];
};
_Static_assert(sizeof(struct ct_key) == 40, "ct_key");
#define CT_SCOPE_HOST 1 /* the host's flow as its devices see it; 0: an endpoint's */

#define CT_ORIGIN_HI 1 /* the side that opened the flow is `hi` */
#define CT_SEEN_NON_SYN 2
#define CT_CLOSING_FORWARD 4
#define CT_CLOSING_REVERSE 8
#define CT_SEEN_REPLY 16
#define CT_TUNNEL 32 /* the remote end is reached through the tunnel, at `node` */
#define CT_STACK 64 /* came to its endpoint through the host's stack: answers go back through it */
#define CT_SERVICE 128 /* under a frontend's tuple: says only which backend the flow has; alive while the entry of the translated flow is */
#define CT_REPLY_NAT 256 /* answers take `translated` as their source: the frontend that the client asked */
#define CT_LOOPBACK 512 /* the client is its own backend, and is config.loopback_* to itself */
#define CT_TOLD 1024 /* that nobody answers, or nobody confirms, was told (lib/trouble.h) */
#define CT_TOLD_AGAIN 2048 /* ... as much as it ever will be */
#define CT_REDIRECT 4096 /* both ends speak to the proxy, under `handle` (lib/redirect.h) */

/* One end of a flow, with the verdict that its policy gave.  0 identity  4 revision  8 cookie  12 endpoint  14 match  15 share */
struct ct_end {
	__u32 identity;
	__u32 revision; /* endpoint.revision under which this end allowed the flow */
	__u32 cookie;
	__u16 endpoint; /* 0: not on this node, or the host */
	__u8 match; /* MATCH_* */
	__u8 share; /* who holds the entry, see lib/share.h: ends[0] has the low half of the number, ends[1] the high one */
};
_Static_assert(sizeof(struct ct_end) == 16, "ct_end");

/* What went one way.  0 packets  8 bytes
 *
 * As on the wire: a packet that is yet to be cut into segments counts as those, and bytes are from the IP header on. Two CPUs that
 * count the same direction of one connection at the same moment lose one of the two: a locked addition costs 20 cycles. */
struct ct_traffic {
	__u64 packets;
	__u64 bytes;
};
_Static_assert(sizeof(struct ct_traffic) == 16, "ct_traffic");

/* Value of weir_ct. It grows at its end only, by what is nothing when it is zero: an upgrade copies the entries of the version before
 * (datapath/service/kernel/carry_over.ts).
 *
 *   0  expires          4  flags   6 tcp_flags[2]   8  revision
 *  12  reported[2] (forward, reverse)              20  created
 *  24  ends[0]: who opened the flow                40  ends[1]: who answers
 *  56  node ........................................................................
 *  72  backend         76  service                 78  policy_port
 *  80  translated ..................................................................
 *  96  translated_port (be)  98 revision_element  100 sent[2]
 * 104  traffic[2] (forward, reverse) ...............................................
 * 136  told           144 told_at   148 handle  152 pad[4] ........................
 *
 * With its key and the kernel's own 48 bytes an element of the table is four cache lines; the last one has what is written at every
 * packet, and two more such fields would still have room.
 *
 * A flow through a service has two entries: (client, frontend) with CT_SERVICE and the backend in `translated`; and
 * (client, backend), the flow that policy is asked about, with CT_REPLY_NAT and the frontend in `translated`. */
struct ct_entry {
	__u32 expires; /* jiffies, low 32 bits */
	__u16 flags;
	__u8 tcp_flags[2]; /* seen forward, reverse */
	__u32 revision; /* what its element of weir_revisions held when the ends were resolved; with CT_SERVICE: frontends_revision
			 * when its frontend was the service's */
	__u32 reported[2]; /* jiffies of the last event */
	__u32 created; /* jiffies */
	struct ct_end ends[2];
	struct address node;
	__u32 backend; /* id in weir_backends; 0: no service */
	__u16 service;
	__u16 policy_port; /* host order: destination port, or ICMP type, that policy is asked about */
	struct address translated;
	__be16 translated_port;
	__u16 revision_element; /* in weir_revisions, of the far end's address, plus one; 0: judged anew at every packet */
	__u16 sent[2]; /* upper halves of the last TCP sequence numbers that left an end here, forward, reverse; before the first
			* answer the second one counts what was sent after the first packet, to TRIES_MAX */
	struct ct_traffic traffic[2]; /* by direction: forward, reverse; none with CT_SERVICE */
	__u64 told; /* packets of both directions that a record told of last */
	__u32 told_at; /* jiffies; 0: never */
	__u32 handle; /* with CT_REDIRECT: its number */
	__u32 pad[4];
};
#define TRIES_MAX 1000
_Static_assert(sizeof(struct ct_entry) == 168, "ct_entry");
_Static_assert(offsetof(struct ct_entry, ends) == 24, "ct_entry.ends");
_Static_assert(offsetof(struct ct_entry, node) == 56, "ct_entry.node");
_Static_assert(offsetof(struct ct_entry, translated) == 80, "ct_entry.translated");
_Static_assert(offsetof(struct ct_entry, traffic) == 104, "ct_entry.traffic");

/* What a datagram's fragments have in common.  0 source  16 destination  32 id  36 protocol  37 pad[3]
 *
 * protocol: IPv4's; 0 for IPv6, whose fragments may each name another (RFC 8200, 4.5: only the first one's counts). */
struct frag_key {
	struct address source;
	struct address destination;
	__u32 id;
	__u8 protocol;
	__u8 pad[3];
};
_Static_assert(sizeof(struct frag_key) == 40, "frag_key");

/* 0 port_source (be)  2 port_destination (be)  4 policy_port  6 protocol  7 header */
struct frag_ports {
	__be16 port_source;
	__be16 port_destination;
	__u16 policy_port;
	__u8 protocol; /* upper layer */
	__u8 header; /* where it is over what policy has read, in units of 8 bytes: no later fragment begins before that */
};
_Static_assert(sizeof(struct frag_ports) == 8, "frag_ports");

/* One datagram of a sender's last ones, see lib/fragment.h.  0 sequence  4 made (jiffies)  8 used  12 pad  16 key ...  56 ports ... */
#define FRAG_SENDERS 5120 /* the endpoints, by id, and 1024 for all others, by the hash of both addresses */
#define FRAG_SLOTS 16
struct frag_slot {
	__u32 sequence; /* odd: being written */
	__u32 made;
	__u32 used; /* the sender's clock when it was last asked for */
	__u32 pad;
	struct frag_key key;
	struct frag_ports ports;
};
_Static_assert(sizeof(struct frag_slot) == 64, "frag_slot");

/* weir_frag_senders[].  0 clock  4 pad  8 slots[16] ... */
struct frag_sender {
	__u32 clock; /* one more with each use of a slot */
	__u32 pad;
	struct frag_slot slots[FRAG_SLOTS];
};
_Static_assert(sizeof(struct frag_sender) == 1032, "frag_sender");

/* weir_error_budgets[endpoint]: ICMP errors that say "too big", to and from it.  0 since (jiffies)  4 count */
struct error_budget {
	__u32 since;
	__u32 count;
};
_Static_assert(sizeof(struct error_budget) == 8, "error_budget");
#define ERRORS_PER_SECOND 64

/* ---- the host's fail-safe list, see lib/failsafe.h -------------------------------------------------------------- */

#define FAILSAFES_MAX 256
#define FAILSAFE_NODES 1 /* only where the other end is a node */
#define FAILSAFE_ESTABLISHED 2 /* only of a connection that a socket of this node has */

/* Key of weir_failsafe: who may open what, seen from the host.
 *   0  address (zero: anybody) ...............................  16 port  18 protocol  19 egress  20 pad */
struct failsafe_key {
	struct address address; /* of the other end */
	__u16 port; /* host order, of who is asked */
	__u8 protocol;
	__u8 egress; /* 1: the host asks */
	__u32 pad;
};
_Static_assert(sizeof(struct failsafe_key) == 24, "failsafe_key");

/* 0 passed  8 kind  12 flags  14 port_source */
struct failsafe {
	__u64 passed; /* verdicts of policies that it has overruled */
	__u32 kind; /* a cookie: FAILSAFE_* of proto/numbers/failsafes.tsv */
	__u16 flags;
	__u16 port_source; /* host order, of who asks; 0: any */
};
_Static_assert(sizeof(struct failsafe) == 16, "failsafe");

/* ---- fair shares, see lib/share.h ---------------------------------------------------------------------------- */

#define SHARES_MAX 8192
#define SHARE_NODE 0 /* the node itself, health checks and the control plane; an endpoint's id: what it has opened */
#define SHARE_OUTSIDE 4096 /* plus an endpoint's id: what others have opened towards it; plus 0: services from outside */
#define HOLDING_MAX 57346
_Static_assert(SHARE_OUTSIDE == ENDPOINTS_MAX && SHARES_MAX == 2 * ENDPOINTS_MAX, "shares");

/* weir_holdings[]: entries held now. Element SHARE: of weir_ct; SHARES_MAX + SHARE: of weir_nat; HOLDING_MAX - 2 and - 1: all of these.
 *   0 now  4 base  8 seen  12 removed (the last three are the collector's, while it counts anew) */
struct holding {
	__u32 now;
	__u32 base;
	__u32 seen;
	__u32 removed;
};
_Static_assert(sizeof(struct holding) == 16, "holding");

/* weir_refused[SHARE]: new flows that their share refused.  0 ct  8 nat  16 ports (towards one server)  24 handles */
struct refused {
	__u64 ct;
	__u64 nat;
	__u64 ports;
	__u64 handles;
};
_Static_assert(sizeof(struct refused) == 32, "refused");

/* weir_limits[0]: sizes of the tables, which programs cannot ask for. 0: no shares.
 *   0 ct_entries_max  4 nat_entries_max  8 handles_max  12 pad */
struct limits {
	__u32 ct_entries_max;
	__u32 nat_entries_max;
	__u32 handles_max; /* of weir_handles */
	__u32 pad;
};
_Static_assert(sizeof(struct limits) == 16, "limits");

/* ---- handles: connections that the proxy judges, see lib/handle.h ---------------------------------------------- */

#define HANDLES_MAX 32768
#define NEW_HANDLES_BYTES (256 << 10) /* of the ring weir_new_handles: 16,384 numbers */
#define HANDLE_INDEX_BITS 16
#define HANDLE_OTHER_LEG 0x8000 /* no number has it: in an address of lib/redirect_datagram.h, the leg to the server */
_Static_assert(HANDLES_MAX <= HANDLE_OTHER_LEG, "HANDLE_OTHER_LEG");
#define HANDLE_NUMBER_MASK 0xffffff /* the rest counts how often the index was used */

#define REDIRECT_EGRESS 1 /* the egress policy of who opened it wants the proxy */
#define REDIRECT_INGRESS 2 /* the ingress policy of who answers */
#define REDIRECT_FLOW 4 /* the flow's entry has CT_REDIRECT */
#define REDIRECT_PASSED 8 /* the packet comes from the proxy */
#define REDIRECT_AUDIT 32 /* for a moment: policy_audit() is to be asked */
#define REDIRECT_NAT 16 /* who sent it knows an address of this node, or the frontend in weir_arrival */
#define REDIRECT_SOCKET 64 /* of a cgroup endpoint's socket, which connects to the handle itself: lib/redirect_socket.h */

/* One end of the connection.  0 identity  4 endpoint (0: not on this node)  6 pad */
struct handle_end {
	__u32 identity;
	__u16 endpoint;
	__u16 pad;
};
_Static_assert(sizeof(struct handle_end) == 8, "handle_end");

/* weir_handles[index]: the flow is `key`'s; one entry of conntrack has its number.
 *
 *   0  number           4  taken     8  created     12 upstream_port (be)  14 redirect  15 client_hi
 *  16  key (client, server) ................................................ 40 bytes
 *  56  upstream: where the proxy's socket to the server is bound .................... (zero: not connected yet)
 *  72  cookie: of that socket; UDP: of the proxy's, that has sent last
 *  80  frontend: what the client asked for, if a service was translated ........... 96 frontend_port (be)  98 service
 * 100  share           104 client       112 server    120 pad[2]
 */
struct handle {
	__u32 number; /* stays when it is given back, so that the next one differs */
	__u32 taken;
	__u32 created; /* jiffies */
	__be16 upstream_port;
	__u8 redirect; /* REDIRECT_EGRESS, REDIRECT_INGRESS when it was made, REDIRECT_SOCKET */
	__u8 client_hi; /* the client is key.hi */
	struct ct_key key;
	struct address upstream;
	__u64 cookie;
	struct address frontend;
	__be16 frontend_port;
	__u16 service;
	__u32 share;
	struct handle_end client;
	struct handle_end server;
	__u32 pad[2];
};
_Static_assert(sizeof(struct handle) == 128, "handle");
_Static_assert(offsetof(struct handle, key) == 16, "handle.key");
_Static_assert(offsetof(struct handle, upstream) == 56, "handle.upstream");
_Static_assert(offsetof(struct handle, frontend) == 80, "handle.frontend");
_Static_assert(offsetof(struct handle, client) == 104, "handle.client");

/* ---- counters ---------------------------------------------------------------------------------------------- */

#define DIRECTION_INGRESS 1
#define DIRECTION_EGRESS 2
#define DIRECTION_SERVICE 3
#define METRICS_MAX 1024

/* weir_metrics[reason << 2 | direction], per CPU.  0 packets  8 bytes. Reason 0: forwarded. */
struct metric {
	__u64 packets;
	__u64 bytes;
};
_Static_assert(sizeof(struct metric) == 16, "metric");

/* weir_lost[event type % LOST_MAX], per CPU: events that the ring had no room for, or their holder no share in it. */
#define LOST_MAX 8

/* ---- events ------------------------------------------------------------------------------------------------ */

#define EVENT_PAYLOAD_MAX 128
#define EVENT_OUTER_OFFSET 112 /* in payload, with EVENT_TUNNEL: underlay address that it came from */

/* A record of the ring weir_events. One record per decision:
 *  - DROP: `subtype` is the drop reason. For policy denials (133, 181) the verdict flags say which direction
 *    denied (the last of them if both are set: ingress is only asked when egress allowed), with cookie and match.
 *  - POLICY_VERDICT: a new connection was allowed; the verdict flags say which ends were asked. It stands for the
 *    trace of the connection's first packet too: `subtype` is the trace point, `reason` REASON_NEW.
 *  - TRACE: `subtype` is the trace point.
 *  - TROUBLE: `subtype` is TROUBLE_*. Of NO_ANSWER and UNCONFIRMED there is no packet: the payload is headers made from the flow's
 *    key, from who opened it, with the flag L3; length_original is how long it waits (ms), line how many packets were sent
 *    (TCP: SYNs). Of the others it is the packet that says so.
 *  - TRAFFIC: what a connection has carried since it began (lib/traffic.h). `subtype` is 1 when it is over; the payload is headers made
 *    from its key, and at EVENT_TRAFFIC_OFFSET struct ct_traffic, forward and reverse; length_original is its age (ms).
 *
 *   0  type  1 subtype  2 source_endpoint  4 destination_endpoint  6 length_captured
 *   8  time (ns, CLOCK_MONOTONIC)
 *  16  source_identity  20 destination_identity
 *  24  ifindex          28 length_original
 *  32  line  34 file  35 reason  36 flags  37 egress_match  38 ingress_match  39 protocol
 *  40  egress_cookie    44 ingress_cookie
 *  48  policy_port  50 proxy_port  52 hook_endpoint  54 service  56 holder  58 pad2  60 vni
 *  64  payload[128] (with EVENT_TUNNEL payload[112], and at 176 the underlay address that it came from)
 */
#define EVENT_TRAFFIC_OFFSET 96 /* in the payload */
struct event {
	__u8 type;
	__u8 subtype;
	__u16 source_endpoint;
	__u16 destination_endpoint;
	__u16 length_captured;
	__u64 time;
	__u32 source_identity;
	__u32 destination_identity;
	__u32 ifindex;
	__u32 length_original;
	__u16 line; /* drops: where in which file (FILE_*) */
	__u8 file;
	__u8 reason; /* REASON_* */
	__u8 flags;
	__u8 egress_match;
	__u8 ingress_match;
	__u8 protocol;
	__u32 egress_cookie;
	__u32 ingress_cookie;
	__u16 policy_port; /* destination port of the forward direction, or ICMP type */
	__u16 proxy_port; /* where the flow is redirected to, as policy asks; 0 nowhere */
	__u16 hook_endpoint; /* the endpoint whose hook made the record; 0: a device's hook */
	__u16 service; /* the flow goes through this service; 0 none */
	__u16 holder; /* who has caused it, see below */
	__u16 pad2;
	__u32 vni; /* with EVENT_TUNNEL */
	__u8 payload[EVENT_PAYLOAD_MAX];
};
_Static_assert(sizeof(struct event) == 192, "event");
_Static_assert(offsetof(struct event, source_identity) == 16, "event.source_identity");
_Static_assert(offsetof(struct event, egress_cookie) == 40, "event.egress_cookie");
_Static_assert(offsetof(struct event, payload) == 64, "event.payload");

/* Who has caused an event, and whose share of the ring it takes: 0 the node itself, 1..4095 an endpoint by what it sends,
 * EVENT_OUTSIDE + endpoint who sends to it from elsewhere, EVENT_OUTSIDE who sends to the node. */
#define EVENT_OUTSIDE 4096
#define EVENT_HOLDERS_MAX 8192

/* weir_event_counts[holder], per CPU and exact.  0 made  8 refused  16 lost  24 credit  28 pad */
struct event_counts {
	__u64 made; /* records in the ring */
	__u64 refused; /* over its share while the ring filled */
	__u64 lost; /* the ring was full */
	__u32 credit; /* records that it may make before its share is reckoned again */
	__u32 pad;
};
_Static_assert(sizeof(struct event_counts) == 32, "event_counts");

/* weir_troubles[element]: flows in trouble. Element: an endpoint's id, flows that it opened (0: the node); EVENT_OUTSIDE + id, flows
 * towards it, whoever opened them.  0 counts[8] by TROUBLE_*, exact   64 since (jiffies)  68 told: records in that second */
#define TROUBLES_MAX 8
struct troubles {
	__u64 counts[TROUBLES_MAX];
	__u32 since;
	__u32 told;
};
_Static_assert(sizeof(struct troubles) == 72, "troubles");
#define TROUBLES_PER_SECOND 16 /* records, of each who opens flows */

/* weir_event_shares[holder]: bytes that wait in the ring, reckoned as of a reader's position.  0 position  8 held */
struct event_share {
	__u64 position;
	__u64 held;
};
_Static_assert(sizeof(struct event_share) == 16, "event_share");

/* ---- reserved identities ----------------------------------------------------------------------------------- */

#define IDENTITY_HOST 1
#define IDENTITY_WORLD 2
#define IDENTITY_HEALTH 4
#define IDENTITY_REMOTE_NODE 6
#define IDENTITY_KUBE_APISERVER 7
#define IDENTITY_WORLD_V4 9
#define IDENTITY_WORLD_V6 10
/* Ours, out of the reserved range beyond Cilium's (0-11, 100 and up): whom a packet to many reaches nobody can say, the sockets of
 * this host among them. So they are not the world, and a rule must name them. */
#define IDENTITY_MULTICAST 64
#define IDENTITY_BROADCAST 65

/* ---- skb->mark --------------------------------------------------------------------------------------------- */

/* Whole words, compared whole. Packets from pods and from the network arrive without a mark. */
#define MARK_OVERLAY 0x57450400 /* the tunnel key is set, to_overlay lets it through */
#define MARK_OVERLAY_REPLY 0x57450500 /* and it is an answer to who asked a frontend: to_overlay gives it that one's address */
#define MARK_TRANSLATED 0x57450300 /* source and destination are as they leave the node, to_netdev lets it through */
#define MARK_TUNNEL 0x57450700 /* with an ORIGIN_*: see there */
#define MARK_FRAGMENT 0x57450600 /* sent to its device again in the right order (lib/fragment_order.h) */
#define MARK_UPSTREAM 0x57450800 /* of a socket by which the proxy connects on to a handle's server */
#define MARK_ONWARD 0x57450a00 /* on its client's device again: the proxy asks the server (lib/redirect_datagram.h) */
#define MARK_DELIVERED 0x57450f00 /* policy was asked, to_endpoint lets it through */

/* ---- skb->tc_index ----------------------------------------------------------------------------------------- */

/* Where a tunnel packet comes from, together with MARK_TUNNEL. The kernel keeps both through its UDP and VXLAN layers, fragments
 * included. A socket can set a mark, but no tc_index; who rules another network namespace can give its packets a tc_index (a class
 * of a clsact filter), but a mark does not leave the namespace. Who can do both rules this namespace. */
#define ORIGIN_NODE 0x5701 /* from_netdev: a tunnel packet from a known node */
#define ORIGIN_OVERLAY 0x5702 /* to_overlay: what this node's tunnel device makes of it is a tunnel packet */

/* ---- requests to programs of type "syscall", run by BPF_PROG_TEST_RUN with this as ctx_in and ctx_out ------- */

#define GC_EXPIRED 0 /* only what has expired */
#define GC_PRESSURE 1 /* and unanswered flows older than `age` seconds, or `age_over` of who holds more than `held_max` entries */
#define GC_ENDPOINT 2 /* and every flow of `endpoint` */
#define GC_ADDRESS 3 /* and every flow of `address` */
#define GC_ALL 4

/* Program weir_gc.
 *   0 mode  4 endpoint  6 age_over  8 address ...  24 age  28 visited  32 deleted  36 live
 *  52 held_max  40 nat_visited  44 nat_deleted  48 nat_live: the same of weir_nat, where GC_ENDPOINT does nothing (no ids in it)
 */
struct gc_request {
	__u32 mode;
	__u16 endpoint;
	__u16 age_over;
	struct address address;
	__u32 age;
	__u32 visited; /* out */
	__u32 deleted; /* out */
	__u32 live; /* out: entries left */
	__u32 nat_visited; /* out */
	__u32 nat_deleted; /* out */
	__u32 nat_live; /* out */
	__u32 held_max;
};
_Static_assert(sizeof(struct gc_request) == 56, "gc_request");

/* Program weir_unanswered: tells of flows that wait for an answer, and what connections have carried.
 *   0 visited  4 waiting: without an answer for a second and more  8 found: told of for the first time  12 told: connections whose
 *   traffic was told (all out) */
struct unanswered_request {
	__u32 visited;
	__u32 waiting;
	__u32 found;
	__u32 told;
};
_Static_assert(sizeof(struct unanswered_request) == 16, "unanswered_request");

/* Program weir_in_use: marks those addresses in weir_asked that are the far end of a flow that an endpoint has.
 *   0 visited  4 used: addresses that were marked (both out) */
struct in_use_request {
	__u32 visited;
	__u32 used;
};
_Static_assert(sizeof(struct in_use_request) == 8, "in_use_request");
#define ASKED_MAX 16384

/* Program weir_revise: the prefix (v4-mapped: 96 + length) of the ipcache or of weir_addresses has changed.
 *   0 address ...  16 prefixlen  20 revised (out): elements of weir_revisions that were bumped */
struct revision_request {
	struct address address;
	__u32 prefixlen;
	__u32 revised;
};
_Static_assert(sizeof(struct revision_request) == 24, "revision_request");

/* Program weir_clock: two samples some 100 ms apart give HZ.  0 jiffies  8 time (ns, CLOCK_MONOTONIC) */
struct clock_sample {
	__u64 jiffies;
	__u64 time;
};
_Static_assert(sizeof(struct clock_sample) == 16, "clock_sample");
