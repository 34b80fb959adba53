/**
 * The dumps of the kernel's maps that the datapath gives (`GET /v1/maps/<name>`) and `weir bpf <name> list` shows: the one
 * list. A new one is a line here and a function in `datapath/service/dumps`; the compiler asks for it.
 * @module
 */

/** A dump and what it shows. */
interface DumpSpec {
  name: string;
  says: string;
}

const SPECS = [
  { name: "endpoint", says: "endpoints with their counters" },
  { name: "policy", says: "what each policy allows and denies" },
  { name: "ct", says: "tracked flows" },
  { name: "nat", says: "translated flows" },
  { name: "handle", says: "connections that the L7 proxy judges" },
  { name: "lb", says: "frontends of services with their backends" },
  { name: "backend", says: "backends of services" },
  { name: "affinity", says: "which backend a client keeps" },
  { name: "source_ranges", says: "who may use services from outside" },
  { name: "ipcache", says: "identity and node of addresses" },
  { name: "metrics", says: "packets by drop reason" },
  { name: "address", says: "addresses of this node" },
] as const satisfies readonly DumpSpec[];

/** Name of a dump. */
export type DumpName = typeof SPECS[number]["name"];
/** Every dump, in the order in which people are told of them. */
export const DUMPS: readonly DumpSpec[] = SPECS;
/** Their names. */
export const DUMP_NAMES: readonly DumpName[] = SPECS.map(({ name }) => name);
