/**
 * `--group-by`: how much of what, of whom to whom.
 *
 * @module
 */
import { reservedIdentityName } from "@weir/common/identity";
import type { Connection, Rollup } from "@weir/proto/history";
import type { Endpoint } from "@weir/proto/flow";
import { UsageError } from "../context.ts";
import { didYouMean } from "../suggestion.ts";

/** What both ends are told by: the group has `from.NAME` and `to.NAME`. */
const ENDS = ["pod", "workload", "namespace", "identity"];
/** What a connection is told by. */
const WHOLE = ["port", "protocol", "verdict", "reason", "policy", "node"];
/** Keys of a group. More in one question are refused. */
export const GROUPS_MAX = 4;

/** What may be grouped by. */
export const GROUP_KEYS: readonly string[] = [...ENDS, "label:KEY", ...WHOLE];

/** Checks what was asked for. @throws {UsageError} */
export function checkGroups(keys: readonly string[], hint: string): readonly string[] {
  for (const key of keys) {
    if (ENDS.includes(key) || WHOLE.includes(key) || /^label:[\w./:-]{1,253}$/.test(key)) continue;
    throw new UsageError(
      `--group-by is "${key}"${didYouMean(key, GROUP_KEYS)}: expected ${GROUP_KEYS.join(", ")}`,
      hint,
    );
  }
  if (keys.length > GROUPS_MAX) {
    throw new UsageError(`--group-by ${keys.length} keys: at most ${GROUPS_MAX}`, hint);
  }
  return keys;
}

const isEnd = (key: string) => ENDS.includes(key) || key.startsWith("label:");

/** Names of the columns of these groups: "from.pod", "to.pod", "port". */
export function groupColumns(keys: readonly string[]): string[] {
  return keys.flatMap((key) => isEnd(key) ? [`from.${key}`, `to.${key}`] : [key]);
}

function ofEnd(key: string, endpoint: Endpoint | undefined, names: readonly string[], ip: string): string {
  const identity = endpoint?.identity ?? 0, reserved = reservedIdentityName(identity);
  const join = (name: string) => endpoint?.namespace ? `${endpoint.namespace}/${name}` : name;
  // Who is no pod is told by what it is: a name that was asked for, world, host; else by its address.
  const other = names[0] ?? (reserved !== undefined && identity !== 0 ? `reserved:${reserved}` : ip);
  if (key === "namespace") return endpoint?.namespace || other;
  if (key === "identity") return reserved === undefined ? `${identity}` : `reserved:${reserved}`;
  if (key === "pod") return endpoint?.pod_name ? join(endpoint.pod_name) : other;
  if (key === "workload") {
    const [workload] = endpoint?.workloads ?? [];
    return workload ? join(workload.name) : endpoint?.pod_name ? join(endpoint.pod_name) : other;
  }
  const wanted = key.slice("label:".length);
  for (const label of endpoint?.labels ?? []) {
    const equals = label.indexOf("="), name = equals < 0 ? label : label.slice(0, equals);
    if (name === wanted || name.slice(name.indexOf(":") + 1) === wanted) {
      return equals < 0 ? "" : label.slice(equals + 1);
    }
  }
  return "";
}

/** "CiliumNetworkPolicy:shop/web": policies that decided, as the history names them. */
export function policyNames({ policies }: Connection): string {
  const denied = policies.filter(({ allowed }) => !allowed);
  return (denied.length > 0 ? denied : policies).map(({ policy }) =>
    policy === undefined
      ? ""
      : `${policy.kind}:${policy.namespace ? `${policy.namespace}/` : ""}${policy.name}`
  ).filter((name, index, all) => name !== "" && all.indexOf(name) === index).join(",");
}

function keyOf(key: string, connection: Connection): string[] {
  if (isEnd(key)) {
    return [
      ofEnd(key, connection.source, [], connection.sourceIp),
      ofEnd(key, connection.destination, connection.destinationNames, connection.destinationIp),
    ];
  }
  if (key === "port") return [connection.destinationPort === 0 ? "" : `${connection.destinationPort}`];
  if (key === "protocol") return [connection.protocol];
  if (key === "verdict") return [connection.verdict];
  if (key === "reason") return [connection.dropReason === "DROP_REASON_UNKNOWN" ? "" : connection.dropReason];
  if (key === "policy") return [policyNames(connection)];
  return [connection.nodes.join(", ")];
}

/** Adds connections up by group: most dropped, then most flows first. Pure. */
export function groupConnections(connections: readonly Connection[], keys: readonly string[]): Rollup[] {
  const columns = groupColumns(keys), groups = new Map<string, Rollup>();
  for (const connection of connections) {
    const values = keys.flatMap((key) => keyOf(key, connection)), name = JSON.stringify(values);
    let group = groups.get(name);
    if (group === undefined) {
      group = {
        keys: Object.fromEntries(columns.map((column, index) => [column, values[index]])),
        startUnixS: 0,
        flows: 0,
        connections: 0,
        dropped: 0,
        audited: 0,
        firstUnixS: connection.startUnixS,
        lastUnixS: connection.endUnixS,
        trafficKnown: false,
        packets: 0,
        bytes: 0,
        troubles: 0,
        denied: 0,
      };
      groups.set(name, group);
    }
    group.connections++;
    group.flows += connection.flows + connection.replyFlows;
    group.dropped += connection.drops;
    if (connection.drops > 0) group.denied++;
    if (connection.verdict === "AUDIT") group.audited++;
    if (connection.trouble !== "") group.troubles++;
    if (connection.trafficKnown) {
      group.trafficKnown = true;
      group.packets += connection.packets + connection.replyPackets;
      group.bytes += connection.bytes + connection.replyBytes;
    }
    // What conntrack alone knows has no time.
    if (connection.startUnixS > 0) {
      group.firstUnixS = group.firstUnixS === 0
        ? connection.startUnixS
        : Math.min(group.firstUnixS, connection.startUnixS);
    }
    group.lastUnixS = Math.max(group.lastUnixS, connection.endUnixS);
  }
  return [...groups.values()].sort((a, b) =>
    b.dropped - a.dropped || b.flows - a.flows || b.connections - a.connections
  );
}
