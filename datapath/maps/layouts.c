/* Names every struct that user space reads or writes, so that all of them are in the BTF of one object: a struct that
 * programs use only behind a pointer would not be. The layouts are those of the programs: both include abi.h. */
#include "lib/abi.h"

struct config config;
struct state state;
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
