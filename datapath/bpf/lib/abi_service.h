/* Services and address translation: what programs and user space share about them. Conventions as in abi.h.
 *
 *   frontend (address, port, protocol) ──▶ service id, two selections ──▶ backend id ──▶ backend (address, port, state)
 *
 * A selection is a table of backend ids. Every write that a changed backend needs is one array element, so a packet sees
 * the old or the new backend and never half a table.
 */
#pragma once

#include "abi.h"

#define SERVICES_MAX 65536 /* ids 1..65535, the same on every node of the cluster */
#define FRONTENDS_MAX 131072
#define BACKENDS_MAX 131072 /* ids 1..131071, of this node; record 0 stays empty */
#define SELECTIONS_MAX 131072 /* slots 1..131071; slot 0: no backend */
#define SELECTION_ENTRIES_MAX 131072 /* header and up to 131071 ids: the largest Maglev table */

/* Key of weir_frontends. `address` ::ffff:0.0.0.0 is every v4 address of this node, :: every v6 one (NodePort, HostPort
 * without an address).
 *
 *   0  address ..................................................................
 *  16  port (be)   18  protocol   19  pad   20  pad2
 *
 * Port 0 and protocol 0: every other port of the address (the closed ports of a virtual address). */
struct frontend_key {
	struct address address;
	__be16 port;
	__u8 protocol;
	__u8 pad;
	__u32 pad2;
};
_Static_assert(sizeof(struct frontend_key) == 24, "frontend_key");

#define FRONTEND_EXTERNAL 1 /* may be used from outside the cluster: NodePort, LoadBalancer, external IP, HostPort */
#define FRONTEND_AFFINITY 2 /* ClientIP, `affinity_timeout` */
#define FRONTEND_SOURCE_RANGES 4 /* who comes from outside must be in weir_source_ranges (177) */
#define FRONTEND_SOURCE_DENY 8 /* ... must not be in them */
#define FRONTEND_DSR 16 /* remote backends answer the client themselves; else this node translates the source too */
#define FRONTEND_NODE_PORT 32 /* NodePort or HostPort, for people who read the map */
#define FRONTEND_CLOSED 64 /* no service: this port of a virtual address is closed */
#define FRONTEND_EVERY_NODE 128 /* a NodePort: other nodes have it too, so who asks them from here is served here */
#define FRONTEND_LOCAL 256 /* externalTrafficPolicy Local: of those only by the backends of the node that is asked */

#define SCOPE_INTERNAL 0 /* for endpoints, the node's own sockets */
#define SCOPE_EXTERNAL 1 /* for what comes from outside the cluster */

/* Value of weir_frontends.
 *
 *   0  selections[2]    8  service   10  flags   12  affinity_timeout   16  seed   20  pad
 */
struct frontend {
	__u32 selections[2]; /* slots in weir_selections, by SCOPE_*; 0: no backend */
	__u16 service;
	__u16 flags;
	__u32 affinity_timeout; /* s */
	__u32 seed; /* of the Maglev hash, the same on every node */
	__u32 pad;
};
_Static_assert(sizeof(struct frontend) == 24, "frontend");

#define BACKEND_GONE 0
#define BACKEND_ACTIVE 1
#define BACKEND_TERMINATING 2 /* keeps what it has, gets nothing new */
#define BACKEND_QUARANTINED 3
#define BACKEND_MAINTENANCE 4

/* weir_backends[id]. A record is made before any selection names it, and cleared after none does; an id rests before
 * it is used anew. Whoever remembers an id compares the address too.
 *
 *   0  address ..................................................................
 *  16  port (be)   18  protocol   19  state   20  service   22  pad
 */
struct backend {
	struct address address;
	__be16 port;
	__u8 protocol;
	__u8 state; /* BACKEND_* */
	__u16 service; /* whose it is, for user space that starts anew */
	__u16 pad;
};
_Static_assert(sizeof(struct backend) == 24, "backend");

/* A selection, the map weir_selections[slot]: an array of u32. Element 0 is the number of entries that follow, with
 * SELECTION_MAGLEV when they are a Maglev table (take by the flow's hash) and without it when any may be taken. A
 * backend's weight is how often it occurs. Entry 0: nobody (never between 1 and the number). */
#define SELECTION_MAGLEV 0x80000000u
#define SELECTION_COUNT 0x7fffffffu

/* Key of weir_affinity, an LRU. `client`: address of who comes from outside or from an endpoint; for the node's own
 * sockets the cookie of the network namespace in halves[1], halves[0] all ones.
 *   0  client ....  16  service  18 pad  20 pad2 */
struct affinity_key {
	struct address client;
	__u16 service;
	__u16 pad;
	__u32 pad2;
};
_Static_assert(sizeof(struct affinity_key) == 24, "affinity_key");

/* 0 backend  4 used (jiffies) */
struct affinity {
	__u32 backend;
	__u32 used;
};
_Static_assert(sizeof(struct affinity) == 8, "affinity");

/* Element of weir_affinity_rates, of a network or an endpoint: records that it has got since a time.
 * 0 since (jiffies)  4 made */
struct affinity_rate {
	__u32 since;
	__u32 made;
};
_Static_assert(sizeof(struct affinity_rate) == 8, "affinity_rate");
#define AFFINITY_RATES 4096
#define AFFINITY_RECORDS 1024 /* that one gets in */
#define AFFINITY_SECONDS 3600

/* Key of weir_source_ranges, an LPM trie; the value is a u32, 1. prefixlen = 32 + bits of the (v4-mapped) address. */
struct source_range {
	__u32 prefixlen;
	__u32 service;
	__u8 address[16];
};
_Static_assert(sizeof(struct source_range) == 24, "source_range");

/* weir_service_counters[service], per CPU.  0 connections  8 refused  16 packets  24 bytes */
struct service_counters {
	__u64 connections; /* a backend was chosen */
	__u64 refused; /* no backend, or a source that may not */
	__u64 packets; /* translated, both directions */
	__u64 bytes;
};
_Static_assert(sizeof(struct service_counters) == 32, "service_counters");

/* ---- translation of the source: masquerade, and services whose backend is on another node ------------------- */

/* Key of weir_nat: a packet as it arrives. Not normalised: each direction has its entry.
 *
 *   0  source .....................................................................
 *  16  destination ................................................................
 *  32  port_source (be)  34  port_destination (be)  36  protocol  37 pad[3]
 *
 * ICMP echo: port_source is the id of a question, port_destination that of an answer; the other is 0. */
struct nat_key {
	struct address source;
	struct address destination;
	__be16 port_source;
	__be16 port_destination;
	__u8 protocol;
	__u8 pad[3];
};
_Static_assert(sizeof(struct nat_key) == 40, "nat_key");

#define NAT_REVERSE 1 /* for answers; the other entry's key is this value, turned round */
#define NAT_MASQUERADE 2 /* of an endpoint's own connection; else of a service from outside */
#define NAT_HOST 4 /* the node's own connection, whose port was taken */
#define NAT_DSR 8 /* the client's own address goes on, and the backend's node answers it: there is no entry for answers */
#define NAT_TUNNEL 16 /* the client is behind the tunnel, and answers go back through it */
#define NAT_LOCAL 32 /* the backend is a socket of this node itself: the client's address stays */
#define NAT_ANSWER_TUNNEL 64 /* the backend is behind the tunnel: its answers come through it */
#define NAT_INSIDE 128 /* the client is a node or a pod of the cluster */

/* Value of weir_nat: the same packet as it leaves.
 *
 *   0  source  16 destination  32 port_source (be)  34 port_destination (be)  36 flags  38 service
 *  40  expires (jiffies)  44 created (jiffies)  48 backend  52 tcp_flags[2] (seen forward, reverse)  54 share
 */
struct nat_entry {
	struct address source;
	struct address destination;
	__be16 port_source;
	__be16 port_destination;
	__u16 flags;
	__u16 service;
	__u32 expires;
	__u32 created;
	__u32 backend;
	__u8 tcp_flags[2];
	__u16 share; /* who holds the entry, see lib/share.h */
};
_Static_assert(sizeof(struct nat_entry) == 56, "nat_entry");

/* weir_outer_addresses[ifindex]: what endpoints masquerade as on this outer device, where that is not the node's own
 * address of `struct config`.
 *   0 ipv4 (be)  4 pad[3]  16 ipv6 ...; zero: the node's own */
struct outer_addresses {
	__be32 ipv4;
	__u32 pad[3];
	struct address ipv6;
};
_Static_assert(sizeof(struct outer_addresses) == 32, "outer_addresses");

/* Key of weir_masquerade_exceptions, an LPM trie of destinations that see the pod's own address; the value is a u32, 1. */
struct masquerade_exception {
	__u32 prefixlen; /* of the (v4-mapped) address, 0..128 */
	__u8 address[16];
};
_Static_assert(sizeof(struct masquerade_exception) == 20, "masquerade_exception");

/* ---- socket-level translation ------------------------------------------------------------------------------- */

#define SOCKET_REVERSE 0 /* from the backend to the frontend that the socket asked for */
#define SOCKET_FORWARD 1 /* from a frontend to the backend that gets the socket's datagrams */

/* Of weir_socket_places: together less than weir_sockets has, so that this never forgets by itself. */
#define SOCKET_GROUPS 32
#define SOCKET_PLACES 1536

/* Key of weir_sockets, an LRU: what a translated socket believes its peer to be.
 *   0 cookie  8 address ...  24 port (be)  26 pad  28 direction (SOCKET_*) */
struct socket_key {
	__u64 cookie;
	struct address address;
	__be16 port;
	__u16 pad;
	__u32 direction;
};
_Static_assert(sizeof(struct socket_key) == 32, "socket_key");

/* The other one.  0 address ...  16 port (be)  18 service  20 backend */
struct socket_peer {
	struct address address;
	__be16 port;
	__u16 service;
	__u32 backend;
};
_Static_assert(sizeof(struct socket_peer) == 24, "socket_peer");
