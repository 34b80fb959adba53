/**
 * What sums are grouped by: each dimension makes a row's value.
 * @module
 */
import { ProblemError } from "@weir/common";
import type { Endpoint } from "@weir/proto/flow";
import type { StoredRollup } from "@weir/proto/history";
import type { EndTable } from "./end_table.ts";
import type { EndNumbers } from "./rollup_end.ts";

/** What sums can be grouped by, one end's or both. */
export const END_DIMENSIONS = ["end", "pod", "workload", "namespace", "identity", "name"] as const;
export const FLOW_DIMENSIONS = [
  "port",
  "protocol",
  "verdict",
  "reason",
  "policy",
  "direction",
  "node",
] as const;
/** Dimensions of one request. */
export const DIMENSIONS_MAX = 8;
/** A column of the answer. */
export interface Dimension {
  /** Its name in the answer. */
  readonly key: string;
  /** What the value is made of: where it is the same, so is the value. */
  readonly sourceOf: (row: StoredRollup) => string | number;
  readonly valueOf: (row: StoredRollup) => string;
}

/** @throws {ProblemError} QUERY_INVALID for a dimension that there is not */
export function dimensionsOf(by: readonly string[], ends: EndTable, numbers: EndNumbers): Dimension[] {
  const all = by.flatMap((text): Dimension[] => {
    const [, side, name] = /^(?:(from|to)[:.])?(.+)$/.exec(text) ?? [];
    const isEnd = (END_DIMENSIONS as readonly string[]).includes(name ?? "") || /^label:.+/.test(name ?? "");
    if (isEnd) {
      return (side === undefined ? ["from", "to"] : [side]).map((one) =>
        name === "end" ? numberDimension(one, numbers) : endDimension(one, name, ends)
      );
    }
    if (side === undefined && (FLOW_DIMENSIONS as readonly string[]).includes(text)) {
      return [flowDimension(text)];
    }
    const expected = `${END_DIMENSIONS.join(", ")}, label:KEY (with from: or to: for one end), ${
      FLOW_DIMENSIONS.join(", ")
    }`;
    throw new ProblemError("QUERY_INVALID", {
      status: 400,
      detail: `Cannot group by ${text.slice(0, 80)}: expected ${expected}`,
      found: text.slice(0, 80),
      expected,
    });
  });
  if (all.length > DIMENSIONS_MAX) {
    throw new ProblemError("QUERY_INVALID", {
      status: 400,
      detail: `Cannot group by ${all.length} columns: at most ${DIMENSIONS_MAX}`,
      found: all.length,
      expected: `at most ${DIMENSIONS_MAX}`,
    });
  }
  return all;
}

function flowDimension(name: string): Dimension {
  return {
    key: name,
    sourceOf: (row) => row[name as "port"],
    valueOf: (row) =>
      name === "reason" && row.reason === "DROP_REASON_UNKNOWN" ? "" : `${row[name as "port"]}`,
  };
}

function numberDimension(side: string, numbers: EndNumbers): Dimension {
  const isSource = side === "from";
  return {
    key: `${side}.end`,
    sourceOf: isSource ? sourceKey : destinationKey,
    valueOf: (row) =>
      isSource ? numbers.of(row.source, row.sourceName) : numbers.of(row.destination, row.destinationName),
  };
}

const sourceKey = ({ source, sourceName }: StoredRollup) =>
  sourceName === "" ? source : `${source} ${sourceName}`;
const destinationKey = ({ destination, destinationName }: StoredRollup) =>
  destinationName === "" ? destination : `${destination} ${destinationName}`;

function endDimension(side: string, name: string, ends: EndTable): Dimension {
  const isSource = side === "from";
  return {
    key: `${side}.${name}`,
    sourceOf: isSource ? sourceKey : destinationKey,
    valueOf: (row) => {
      const end = isSource ? row.source : row.destination;
      return endText(ends.get(end)?.endpoint, name, isSource ? row.sourceName : row.destinationName);
    },
  };
}

/** What an end is called. Pure. `undefined`: one of many that had no room. */
export function endText(end: Endpoint | undefined, name: string, dns: string): string {
  if (end === undefined) return "other";
  if (name.startsWith("label:")) return labelValue(end.labels, name.slice("label:".length));
  if (name === "namespace") return end.namespace;
  if (name === "identity") return `${end.identity}`;
  if (name === "name") return dns;
  const [workload] = end.workloads;
  const pod = end.pod_name === "" ? "" : `${end.namespace}/${end.pod_name}`;
  const own = name === "workload" && workload !== undefined
    ? `${end.namespace}/${workload.kind}/${workload.name}`
    : pod;
  if (own !== "") return own;
  // Who is no pod: its DNS name, else what it is (host, world, remote-node), else its number.
  const reserved = end.labels.find((label) => label.startsWith("reserved:"))?.slice("reserved:".length);
  return dns || reserved || (end.identity === 0 ? "unknown" : `identity ${end.identity}`);
}

/** "k8s:app" one source's, "app" any's. */
function labelValue(labels: readonly string[], key: string): string {
  for (const label of labels) {
    const equals = label.indexOf("="), full = equals < 0 ? label : label.slice(0, equals);
    if (full === key || full.slice(full.indexOf(":") + 1) === key) {
      return equals < 0 ? "" : label.slice(equals + 1);
    }
  }
  return "";
}
