// Types of maps, and which helpers work on which.
import * as G from "./gen/tables";

export const MAP_HASH: u32 = 1;
export const MAP_ARRAY: u32 = 2;
export const MAP_PROG_ARRAY: u32 = 3;
export const MAP_PERF_EVENT_ARRAY: u32 = 4;
export const MAP_PERCPU_HASH: u32 = 5;
export const MAP_PERCPU_ARRAY: u32 = 6;
export const MAP_STACK_TRACE: u32 = 7;
export const MAP_CGROUP_ARRAY: u32 = 8;
export const MAP_LRU_HASH: u32 = 9;
export const MAP_LRU_PERCPU_HASH: u32 = 10;
export const MAP_LPM_TRIE: u32 = 11;
export const MAP_ARRAY_OF_MAPS: u32 = 12;
export const MAP_HASH_OF_MAPS: u32 = 13;
export const MAP_DEVMAP: u32 = 14;
export const MAP_SOCKMAP: u32 = 15;
export const MAP_CPUMAP: u32 = 16;
export const MAP_XSKMAP: u32 = 17;
export const MAP_SOCKHASH: u32 = 18;
export const MAP_CGROUP_STORAGE: u32 = 19;
export const MAP_REUSEPORT_SOCKARRAY: u32 = 20;
export const MAP_PERCPU_CGROUP_STORAGE: u32 = 21;
export const MAP_QUEUE: u32 = 22;
export const MAP_STACK: u32 = 23;
export const MAP_SK_STORAGE: u32 = 24;
export const MAP_DEVMAP_HASH: u32 = 25;
export const MAP_STRUCT_OPS: u32 = 26;
export const MAP_RINGBUF: u32 = 27;
export const MAP_INODE_STORAGE: u32 = 28;
export const MAP_TASK_STORAGE: u32 = 29;
export const MAP_BLOOM_FILTER: u32 = 30;
export const MAP_USER_RINGBUF: u32 = 31;
export const MAP_CGRP_STORAGE: u32 = 32;
export const MAP_ARENA: u32 = 33;
export const MAP_INSN_ARRAY: u32 = 34;

const MAP_LAST: u32 = MAP_INSN_ARRAY;
export const M_RDONLY_PROG: u32 = 0x80, M_WRONLY_PROG: u32 = 0x100;

/// Whether the type is one that this verifier knows.
export function isKnownMap(type: u32): bool {
  return type > 0 && type <= MAP_LAST;
}

/// Flags that the kernel adds when it makes the map. What a lookup in a map of devices gives is the kernel's own record
/// of the device (dev_map_init_map, insn_array_alloc): programs may read it and no more.
export function flagsOfType(type: u32): u32 {
  return type == MAP_DEVMAP || type == MAP_DEVMAP_HASH || type == MAP_INSN_ARRAY ? M_RDONLY_PROG : 0;
}

/// Helpers that change the elements of the map that they are given (record_func_map of the kernel).
export function changesMap(helper: i32): bool {
  return helper == G.H_MAP_UPDATE_ELEM || helper == G.H_MAP_DELETE_ELEM || helper == G.H_MAP_PUSH_ELEM ||
    helper == G.H_MAP_POP_ELEM;
}

/// Whether a helper works on a map type, as check_map_func_compatibility() of the kernel has it.
export function mapFits(helper: i32, type: u32): bool {
  // what a map type demands of helpers
  switch (type) {
    case MAP_PROG_ARRAY:
      return helper == G.H_TAIL_CALL;
    case MAP_PERF_EVENT_ARRAY:
      return helper == G.H_PERF_EVENT_READ || helper == G.H_PERF_EVENT_OUTPUT ||
        helper == G.H_PERF_EVENT_READ_VALUE || helper == G.H_SKB_OUTPUT || helper == G.H_XDP_OUTPUT;
    case MAP_RINGBUF:
      return helper == G.H_RINGBUF_OUTPUT || helper == G.H_RINGBUF_RESERVE || helper == G.H_RINGBUF_QUERY;
    case MAP_STACK_TRACE:
      return helper == G.H_GET_STACKID;
    case MAP_CGROUP_ARRAY:
      return helper == G.H_SKB_UNDER_CGROUP || helper == G.H_CURRENT_TASK_UNDER_CGROUP;
    case MAP_CGROUP_STORAGE:
    case MAP_PERCPU_CGROUP_STORAGE:
      return helper == G.H_GET_LOCAL_STORAGE;
    case MAP_DEVMAP:
    case MAP_DEVMAP_HASH:
      return helper == G.H_REDIRECT_MAP || helper == G.H_MAP_LOOKUP_ELEM;
    case MAP_CPUMAP:
      return helper == G.H_REDIRECT_MAP;
    case MAP_XSKMAP:
      return helper == G.H_REDIRECT_MAP || helper == G.H_MAP_LOOKUP_ELEM;
    case MAP_ARRAY_OF_MAPS:
    case MAP_HASH_OF_MAPS:
      return helper == G.H_MAP_LOOKUP_ELEM;
    case MAP_SOCKMAP:
      return helper == G.H_SK_REDIRECT_MAP || helper == G.H_SOCK_MAP_UPDATE ||
        helper == G.H_MAP_DELETE_ELEM || helper == G.H_MSG_REDIRECT_MAP ||
        helper == G.H_SK_SELECT_REUSEPORT || helper == G.H_MAP_LOOKUP_ELEM ||
        helper == G.H_MAP_UPDATE_ELEM;
    case MAP_SOCKHASH:
      return helper == G.H_SK_REDIRECT_HASH || helper == G.H_SOCK_HASH_UPDATE ||
        helper == G.H_MAP_DELETE_ELEM || helper == G.H_MSG_REDIRECT_HASH ||
        helper == G.H_SK_SELECT_REUSEPORT || helper == G.H_MAP_LOOKUP_ELEM ||
        helper == G.H_MAP_UPDATE_ELEM;
    case MAP_REUSEPORT_SOCKARRAY:
      return helper == G.H_SK_SELECT_REUSEPORT;
    case MAP_QUEUE:
    case MAP_STACK:
      return helper >= G.H_MAP_PUSH_ELEM && helper <= G.H_MAP_PEEK_ELEM;
    case MAP_SK_STORAGE:
      return helper == G.H_SK_STORAGE_GET || helper == G.H_SK_STORAGE_DELETE;
    case MAP_BLOOM_FILTER:
      return helper == G.H_MAP_PEEK_ELEM || helper == G.H_MAP_PUSH_ELEM;
    case MAP_TASK_STORAGE:
      return helper == G.H_TASK_STORAGE_GET || helper == G.H_TASK_STORAGE_DELETE;
    case MAP_CGRP_STORAGE:
      return helper == G.H_CGRP_STORAGE_GET || helper == G.H_CGRP_STORAGE_DELETE;
    case MAP_INSN_ARRAY:
    case MAP_STRUCT_OPS:
    case MAP_INODE_STORAGE:
    case MAP_USER_RINGBUF:
    case MAP_ARENA:
      return false;
    default:
      break;
  }
  // what a helper demands of maps
  switch (helper) {
    case G.H_TAIL_CALL:
      return type == MAP_PROG_ARRAY;
    case G.H_PERF_EVENT_READ:
    case G.H_PERF_EVENT_OUTPUT:
    case G.H_PERF_EVENT_READ_VALUE:
    case G.H_SKB_OUTPUT:
    case G.H_XDP_OUTPUT:
      return type == MAP_PERF_EVENT_ARRAY;
    case G.H_TASK_STORAGE_GET:
    case G.H_TASK_STORAGE_DELETE:
      return type == MAP_TASK_STORAGE;
    case G.H_CGRP_STORAGE_GET:
    case G.H_CGRP_STORAGE_DELETE:
      return type == MAP_CGRP_STORAGE;
    case G.H_RINGBUF_OUTPUT:
    case G.H_RINGBUF_RESERVE:
    case G.H_RINGBUF_QUERY:
      return type == MAP_RINGBUF;
    case G.H_GET_STACKID:
      return type == MAP_STACK_TRACE;
    case G.H_SKB_UNDER_CGROUP:
    case G.H_CURRENT_TASK_UNDER_CGROUP:
      return type == MAP_CGROUP_ARRAY;
    case G.H_REDIRECT_MAP:
      return type == MAP_DEVMAP || type == MAP_DEVMAP_HASH || type == MAP_CPUMAP || type == MAP_XSKMAP;
    case G.H_SK_REDIRECT_MAP:
    case G.H_SOCK_MAP_UPDATE:
    case G.H_MSG_REDIRECT_MAP:
      return type == MAP_SOCKMAP;
    case G.H_SOCK_HASH_UPDATE:
    case G.H_MSG_REDIRECT_HASH:
    case G.H_SK_REDIRECT_HASH:
      return type == MAP_SOCKHASH;
    case G.H_GET_LOCAL_STORAGE:
      return type == MAP_CGROUP_STORAGE || type == MAP_PERCPU_CGROUP_STORAGE;
    case G.H_SK_SELECT_REUSEPORT:
      return type == MAP_REUSEPORT_SOCKARRAY || type == MAP_SOCKMAP || type == MAP_SOCKHASH;
    case G.H_MAP_PUSH_ELEM:
    case G.H_MAP_POP_ELEM:
      return type == MAP_QUEUE || type == MAP_STACK;
    case G.H_MAP_PEEK_ELEM:
      return type == MAP_QUEUE || type == MAP_STACK || type == MAP_BLOOM_FILTER;
    case G.H_SK_STORAGE_GET:
    case G.H_SK_STORAGE_DELETE:
      return type == MAP_SK_STORAGE;
    case G.H_MAP_LOOKUP_PERCPU_ELEM:
      return type == MAP_PERCPU_ARRAY || type == MAP_PERCPU_HASH || type == MAP_LRU_PERCPU_HASH;
    case G.H_FOR_EACH_MAP_ELEM:
      return type == MAP_HASH || type == MAP_ARRAY || type == MAP_PERCPU_HASH || type == MAP_PERCPU_ARRAY ||
        type == MAP_LRU_HASH || type == MAP_LRU_PERCPU_HASH;
    default:
      return true;
  }
}

/// Maps whose elements outlive a program that sleeps.
export function sleepableMap(type: u32): bool {
  switch (type) {
    case MAP_HASH:
    case MAP_ARRAY:
    case MAP_PERCPU_HASH:
    case MAP_PERCPU_ARRAY:
    case MAP_LRU_HASH:
    case MAP_LRU_PERCPU_HASH:
    case MAP_ARRAY_OF_MAPS:
    case MAP_HASH_OF_MAPS:
    case MAP_QUEUE:
    case MAP_STACK:
    case MAP_SK_STORAGE:
    case MAP_RINGBUF:
    case MAP_INODE_STORAGE:
    case MAP_TASK_STORAGE:
    case MAP_USER_RINGBUF:
    case MAP_CGRP_STORAGE:
    case MAP_ARENA:
      return true;
    default:
      return false;
  }
}
