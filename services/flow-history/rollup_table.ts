/**
 * Sums of flows per minute, by who asked whom, port, verdict, reason and policy. All flows are in them, also those that are not
 * kept one by one. Answers are turned round: the source is who asked.
 * @module
 */
import type { Flow } from "@weir/proto/flow";
import { StoredRollup } from "@weir/proto/history";
import type { FlowPlace } from "./connection_table.ts";
import { OTHER_END } from "./end_table.ts";
import { isDrop, isTrouble, policiesOf, type Transport } from "./flow_facts.ts";

/** Kinds of flows that a minute tells apart; the rest have the ends "other". */
export const ROLLUP_ROWS_MAX = 20_000;
/** Minutes that are open at once: late flows find theirs open. */
export const OPEN_MINUTES_MAX = 4;
/** A minute is written so long after its end. */
const GRACE_MS = 5000;
const MINUTE_MS = 60_000;

/** The rows of one stretch of time. */
export interface RollupPart {
  readonly startS: number;
  readonly rows: readonly StoredRollup[];
}

/** Sums that are being made. */
export class RollupTable {
  /** Minute (seconds) -> rows by key; the one that was used last is the last. */
  readonly #minutes = new Map<number, Map<string, StoredRollup>>();
  #lastS = NaN;
  #closed: RollupPart[] = [];
  /** Flows that found no room for a row of their own. */
  folded = 0;

  /** Takes a flow. */
  add(
    flow: Flow,
    place: FlowPlace,
    { transport, unixMs, source, destination }: {
      transport: Transport;
      unixMs: number;
      source: number;
      destination: number;
    },
  ): void {
    const startS = Math.floor(unixMs / MINUTE_MS) * 60, unixS = unixMs / 1000;
    const rows = this.#rowsOf(startS), { isReply } = place;
    const policy = policiesOf(flow).map(({ policy }) => policyText(policy)).join();
    const names = isReply
      ? [flow.destination_names, flow.source_names]
      : [flow.source_names, flow.destination_names];
    const parts = {
      source: isReply ? destination : source,
      destination: isReply ? source : destination,
      sourceName: names[0][0] ?? "",
      destinationName: names[1][0] ?? "",
      port: isReply ? transport.sourcePort : transport.destinationPort,
      protocol: transport.protocol,
      verdict: flow.verdict,
      reason: flow.drop_reason_desc,
      policy,
      direction: flow.traffic_direction,
      node: flow.node_name,
    };
    let row = rows.get(rowKey(parts));
    if (row === undefined) {
      if (rows.size >= ROLLUP_ROWS_MAX) {
        this.folded++;
        const { verdict, reason, direction } = parts;
        Object.assign(parts, {
          ...{ source: OTHER_END, destination: OTHER_END, sourceName: "", destinationName: "", port: 0 },
          ...{ protocol: "", policy: "", node: "", verdict, reason, direction },
        });
        row = rows.get(rowKey(parts));
      }
      if (row === undefined) {
        row = StoredRollup.create({ ...parts, firstUnixS: unixS, lastUnixS: unixS });
        rows.set(rowKey(parts), row);
      }
    }
    row.flows++;
    if (place.isNew) row.connections++;
    if (isDrop(flow)) row.dropped++;
    if (place.isDenial) row.denied++;
    if (flow.verdict === "AUDIT") row.audited++;
    if (isTrouble(flow)) row.troubles++;
    row.firstUnixS = Math.min(row.firstUnixS, unixS);
    row.lastUnixS = Math.max(row.lastUnixS, unixS);
  }

  /** Minutes that are over; all of them with `Infinity`. `nowMs`: as flows are ordered. */
  takeClosed(nowMs: number): RollupPart[] {
    for (const startS of [...this.#minutes.keys()]) {
      const agoMs = nowMs - startS * 1000;
      // One that is far in the future is from before the clock was put back.
      if (agoMs >= MINUTE_MS + GRACE_MS || agoMs < -2 * MINUTE_MS) this.#close(startS);
    }
    return this.#closed.splice(0);
  }

  /** Minutes that are in no part yet. */
  tail(): RollupPart[] {
    return [
      ...this.#closed,
      ...[...this.#minutes].map(([startS, rows]) => ({ startS, rows: [...rows.values()] })),
    ];
  }

  #rowsOf(startS: number): Map<string, StoredRollup> {
    let rows = this.#minutes.get(startS);
    if (startS === this.#lastS && rows !== undefined) return rows;
    if (rows === undefined) {
      // Not the oldest: behind a clock that was put back that is the one of now.
      if (this.#minutes.size >= OPEN_MINUTES_MAX) this.#close(this.#minutes.keys().next().value!);
      rows = new Map();
    } else this.#minutes.delete(startS);
    this.#minutes.set(startS, rows);
    this.#lastS = startS;
    return rows;
  }

  #close(startS: number): void {
    const rows = this.#minutes.get(startS)!;
    this.#minutes.delete(startS);
    this.#closed.push({ startS, rows: [...rows.values()] });
  }
}

/** "CiliumNetworkPolicy:shop/allow-cart", "default-deny" where no policy is named. Pure. */
export function policyText(
  { kind, namespace, name }: { kind: string; namespace: string; name: string },
): string {
  if (kind === "" && name === "") return "default-deny";
  return `${kind}:${namespace === "" ? "" : `${namespace}/`}${name}`;
}

type RowParts = Pick<
  StoredRollup,
  | "source"
  | "destination"
  | "sourceName"
  | "destinationName"
  | "port"
  | "protocol"
  | "verdict"
  | "reason"
  | "policy"
  | "direction"
  | "node"
>;

function rowKey(row: RowParts): string {
  return `${row.source} ${row.destination} ${row.port} ${row.protocol} ${row.verdict} ${row.reason} ${row.direction} ` +
    `${row.node} ${row.policy} ${row.sourceName} ${row.destinationName}`;
}

type Counts = Pick<
  StoredRollup,
  "flows" | "connections" | "dropped" | "audited" | "troubles" | "denied" | "firstUnixS" | "lastUnixS"
>;

/** Adds what a row counts to a sum. */
export function addCounts(sum: Counts, row: Counts): void {
  sum.flows += row.flows;
  sum.connections += row.connections;
  sum.dropped += row.dropped;
  sum.audited += row.audited;
  sum.troubles += row.troubles;
  sum.denied += row.denied;
  sum.firstUnixS = Math.min(sum.firstUnixS, row.firstUnixS);
  sum.lastUnixS = Math.max(sum.lastUnixS, row.lastUnixS);
}

/** Its flows had no room for rows of their own: the ends are "other". */
export function isFolded({ source, destination, protocol }: StoredRollup): boolean {
  return source === OTHER_END && destination === OTHER_END && protocol === "";
}

/** The sum of rows of several parts, one row for each kind. Pure. At most `rowsMax`; the rest has the ends "other". */
export function sumRows(parts: Iterable<readonly StoredRollup[]>, rowsMax = ROLLUP_ROWS_MAX): StoredRollup[] {
  const sums = new Map<string, StoredRollup>();
  for (const part of parts) {
    for (const row of part) {
      let key = rowKey(row), sum = sums.get(key);
      if (sum === undefined && sums.size >= rowsMax) {
        const { verdict, reason, direction } = row;
        const folded = StoredRollup.create({
          verdict,
          reason,
          direction,
          firstUnixS: row.firstUnixS,
          lastUnixS: row.lastUnixS,
        });
        key = rowKey(folded);
        sum = sums.get(key);
        if (sum === undefined) sums.set(key, sum = folded);
      } else if (sum === undefined) {
        sums.set(key, { ...row });
        continue;
      }
      addCounts(sum, row);
    }
  }
  return [...sums.values()];
}
