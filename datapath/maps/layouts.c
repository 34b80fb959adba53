/* Names every struct that user space reads or writes, so that all of them are in the BTF of one object: a struct that
 * programs use only behind a pointer would not be. The layouts are those of the programs: both include abi_service.h. */
#include "lib/abi_service.h"

struct config config;
struct state state;
struct vlan_key vlan_key;
struct endpoint endpoint;
struct address_owner address_owner;
struct endpoint_counters endpoint_counters;
struct ipcache_prefix ipcache_prefix;
struct ipcache_entry ipcache_entry;
struct policy_key policy_key;
struct policy_entry policy_entry;
struct policy_slot policy_slot;
struct ct_key ct_key;
struct ct_entry ct_entry;
struct frag_key frag_key;
struct frag_ports frag_ports;
struct metric metric;
struct event event;
struct gc_request gc_request;
struct clock_sample clock_sample;
struct revision_request revision_request;
struct frontend_key frontend_key;
struct frontend frontend;
struct backend backend;
struct affinity_key affinity_key;
struct affinity affinity;
struct source_range source_range;
struct service_counters service_counters;
struct nat_key nat_key;
struct nat_entry nat_entry;
struct outer_addresses outer_addresses;
struct masquerade_exception masquerade_exception;
struct socket_key socket_key;
struct socket_peer socket_peer;
