/**
 * From a filter to the words that a block must have for a flow of it to match: for each filter of the whitelist groups of words, of
 * each group at least one. Words only leave out blocks; what is in the others the filter itself says.
 *
 *     pod=shop/cart, verdict=dropped ─▶ ends that are meant {12, 40} ─▶ [fs:12 fs:40] and [fv:DROPPED]
 *                                                                   or [fd:12 fd:40] and [fv:DROPPED]
 *
 * @module
 */
import { ProblemError } from "@weir/common";
import { compileFilters, L7_EVENT, loadEngines } from "@weir/flow-filter";
import type { Init } from "@weir/proto";
import type { Flow, FlowFilter } from "@weir/proto/flow";
import type { GetFlowsRequest } from "@weir/proto/observer";
import { ANY_TERM, type BlockKind } from "./block.ts";
import { type EndTable, OTHER_END } from "./end_table.ts";
import { EPHEMERAL_PORT_MIN } from "./flow_facts.ts";
import { wordOf } from "./word.ts";

/** Stands for the blocks of older versions, which lack the words of the group. */
export const OLD_TERM = "?";

/** DNS names that blocks have, as words without their letter; undefined: too many to look for. */
export type KnownNames = (letter: "x" | "y") => Promise<readonly string[] | undefined>;

/** Words of a group: with more it would take longer to look for them than to open the blocks. */
export const GROUP_TERMS_MAX = 128;

/** Groups of words, each of which must be met. Without groups every block is meant. */
export type Groups = readonly (readonly string[])[];

/** A filter, ready to be asked. */
export interface FilterPlan {
  readonly matches: (flow: Flow) => boolean;
  /** One for each filter of the whitelist. */
  readonly alternatives: readonly Groups[];
}

type Filter = Init<FlowFilter>;

const END_FIELDS = {
  source: ["source_pod", "source_label", "source_identity", "source_workload", "source_cluster_name"],
  destination: [
    "destination_pod",
    "destination_label",
    "destination_identity",
    "destination_workload",
    "destination_cluster_name",
  ],
} as const;

/** Fields that a connection can answer. */
export const CONNECTION_FIELDS: ReadonlySet<string> = new Set<keyof FlowFilter>([
  ...END_FIELDS.source,
  ...END_FIELDS.destination,
  "source_ip",
  "destination_ip",
  "source_port",
  "destination_port",
  "destination_fqdn",
  "destination_service",
  "protocol",
  "verdict",
  "drop_reason_desc",
  "ip_version",
]);

/** Fields that a sum can answer. */
export const ROLLUP_FIELDS: ReadonlySet<string> = new Set<keyof FlowFilter>([
  ...END_FIELDS.source,
  ...END_FIELDS.destination,
  "source_fqdn",
  "destination_fqdn",
  "source_port",
  "destination_port",
  "protocol",
  "verdict",
  "drop_reason_desc",
  "traffic_direction",
  "node_name",
]);

/** Refuses what the stored form cannot answer, by name. @throws {ProblemError} FILTER_NOT_SUPPORTED */
export function checkFields(request: Init<GetFlowsRequest>, known: ReadonlySet<string>, what: string): void {
  for (const filter of [...request.whitelist ?? [], ...request.blacklist ?? []]) {
    for (const [field, values] of Object.entries(filter)) {
      if (known.has(field) || (Array.isArray(values) && values.length === 0)) continue;
      throw new ProblemError("FILTER_NOT_SUPPORTED", {
        status: 400,
        detail: `Cannot filter ${what} by ${field}: they do not hold it`,
        found: field,
        expected: [...known].join(", "),
        action: "Ask /v1/flows, or leave it out",
      });
    }
  }
}

/** Compiles a request's filters. @throws {ProblemError} FILTER_INVALID and the like */
export async function planFilters(
  request: Init<GetFlowsRequest>,
  kind: BlockKind,
  ends: EndTable,
  names: KnownNames,
): Promise<FilterPlan> {
  const whitelist = request.whitelist ?? [], blacklist = request.blacklist ?? [];
  const engines = await loadEngines([...whitelist, ...blacklist]);
  const matches = compileFilters(whitelist, blacklist, engines);
  const alternatives = whitelist.length === 0 ? [[]] : await Promise.all(whitelist.map(async (filter) => {
    const groups = [...groupsOf(filter, kind, ends), ...await nameGroups(filter, kind, names)];
    return groups.map((group) => [...group, ANY_TERM]);
  }));
  return { matches, alternatives };
}

function groupsOf(filter: Filter, kind: BlockKind, ends: EndTable): string[][] {
  const groups: string[][] = [];
  const words = (letter: string, values: readonly (string | number)[] | undefined) => {
    if (values !== undefined && values.length > 0 && values.length <= GROUP_TERMS_MAX) {
      groups.push(values.map((value) => `${kind}${letter}:${wordOf(`${value}`)}`));
    }
  };
  for (const side of ["source", "destination"] as const) {
    const own = Object.fromEntries(
      END_FIELDS[side].filter((field) => filter[field]?.length).map((field) => [field, filter[field]]),
    ) as Filter;
    if (Object.keys(own).length === 0) continue;
    const found = ends.find(compileFilters([own], []), side), isSource = side === "source";
    const numbers = [...found.map(({ id }) => id), OTHER_END];
    if (numbers.length <= GROUP_TERMS_MAX) words(isSource ? "s" : "d", numbers);
    else {
      const namespaces = new Set(found.map(({ endpoint }) => endpoint.namespace));
      // Ends without a namespace have no such word.
      if (!namespaces.has("")) words(isSource ? "m" : "n", [...namespaces]);
    }
  }
  words("v", filter.verdict as string[] | undefined);
  words("r", filter.drop_reason_desc as string[] | undefined);
  const ports = (values: readonly string[] | undefined) =>
    values?.every((port) => Number(port) > 0 && Number(port) < EPHEMERAL_PORT_MIN)
      ? values.map(Number)
      : undefined;
  words("o", ports(filter.source_port as string[]));
  words("p", ports(filter.destination_port as string[]));
  const addresses = (values: readonly string[] | undefined) =>
    values?.some((value) => value.includes("/") || value.includes(":")) ? undefined : values;
  words("a", addresses(filter.source_ip as string[]));
  words("b", addresses(filter.destination_ip as string[]));
  if (kind === "c") return groups;
  const types = filter.event_type?.map(({ type }) => type ?? 0);
  if (types?.every((type) => type !== 0)) words("t", types);
  const protocols = (filter.protocol as string[] | undefined)?.map((name) =>
    PROTOCOL_TERMS[name.toLowerCase()] ?? []
  );
  if (protocols?.every((terms) => terms.length > 0)) groups.push(protocols.flat());
  return groups.filter((group) => group.length > 0);
}

/** Groups of DNS names: those that are asked for as they are, or those that are known and match. */
async function nameGroups(filter: Filter, kind: BlockKind, known: KnownNames): Promise<string[][]> {
  const groups: string[][] = [];
  for (const [field, letter] of [["source_fqdn", "x"], ["destination_fqdn", "y"]] as const) {
    const patterns = filter[field] as string[] | undefined;
    if (!patterns?.length) continue;
    const isExact = patterns.every((pattern) => !pattern.includes("*"));
    const words = isExact
      ? patterns.map((pattern) => wordOf(pattern.toLowerCase().replace(/\.$/, "")))
      : await matchingNames(patterns, letter, known);
    if (words !== undefined && words.length <= GROUP_TERMS_MAX) {
      groups.push([...words.map((word) => `${kind}${letter}:${word}`), OLD_TERM]);
    }
  }
  return groups;
}

async function matchingNames(
  patterns: readonly string[],
  letter: "x" | "y",
  known: KnownNames,
): Promise<string[] | undefined> {
  const matches = compileFilters([{ destination_fqdn: [...patterns] }], []);
  // What a digest stands for may match.
  return (await known(letter))?.filter((word) =>
    word.startsWith("#") || matches({ destination_names: [word] } as unknown as Flow)
  );
}

const PROTOCOL_TERMS: Readonly<Record<string, readonly string[]>> = {
  icmp: ["fk:ICMPv4", "fk:ICMPv6"],
  icmpv4: ["fk:ICMPv4"],
  icmpv6: ["fk:ICMPv6"],
  tcp: ["fk:TCP"],
  udp: ["fk:UDP"],
  sctp: ["fk:SCTP"],
  dns: [`ft:${L7_EVENT}`],
  http: [`ft:${L7_EVENT}`],
  kafka: [`ft:${L7_EVENT}`],
};
