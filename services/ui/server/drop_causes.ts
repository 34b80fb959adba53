/** Drops as causes: those with the same ends, port, reason and policies are one. Bounded: the cause that was silent longest goes. @module */
import type { Flow } from "@weir/proto/flow";
import { EVENT } from "@weir/proto/numbers";
import { dropReasonText } from "@weir/proto/words";
import type { DropCause } from "../api.ts";
import { cardOf, type EndNames, nodeNameOf } from "./flow_end.ts";
import { directionOf, rowOf } from "./flow_row.ts";
import type { Pair } from "./flow_table.ts";

/** Steps of a trend and their seconds. */
const TREND_STEPS = 30, TREND_STEP_S = 60;
const NODES_MAX = 16;

type Cause = { -readonly [K in keyof Omit<DropCause, "trend">]: DropCause[K] } & {
  /** Counts by the number of the step since 1970. */
  readonly steps: Map<number, number>;
};

/** The causes. */
export class DropCauses {
  /** Drops of causes that went. */
  folded = 0;
  readonly #causes = new Map<string, Cause>();

  constructor(readonly causesMax: number) {}

  /** Takes in a flow that was dropped; verdicts that led to a drop are told by the drop itself. */
  add(flow: Flow, pair: Pair, { names, nowS }: { names: EndNames; nowS: number }): void {
    if (flow.verdict !== "DROPPED" || flow.event_type?.type === EVENT.POLICY_VERDICT) return;
    const example = rowOf(flow, names, nowS), from = cardOf(pair.from.end, "workload");
    const to = cardOf(pair.to.end, "workload");
    const key = causeKey({
      ...{ from: from.id, to: to.id, protocol: pair.protocol, port: pair.port },
      ...{ reason: example.dropReason, direction: example.direction },
      policies: example.policies.map(({ name }) => name),
    });
    let cause = this.#causes.get(key);
    if (cause === undefined) {
      if (this.#causes.size >= this.causesMax) this.#forgetOldest();
      cause = {
        id: idOf(key),
        from: from.id,
        fromName: nameOf(from),
        to: to.id,
        toName: nameOf(to),
        protocol: pair.protocol,
        port: pair.port,
        reason: example.dropReason,
        reasonText: reasonText(
          example.dropReason,
          example.policies.length > 0,
          dropReasonText(flow.event_type?.sub_type ?? 0),
        ),
        direction: directionOf(flow),
        policies: example.policies,
        count: 0,
        firstSeenUnixS: example.timeUnixS,
        lastSeenUnixS: example.timeUnixS,
        trendStepS: TREND_STEP_S,
        nodes: [],
        example,
        steps: new Map(),
      };
    } else this.#causes.delete(key); // the one that was heard of last stands last
    this.#causes.set(key, cause);
    cause.count++;
    cause.firstSeenUnixS = Math.min(cause.firstSeenUnixS, example.timeUnixS);
    cause.lastSeenUnixS = Math.max(cause.lastSeenUnixS, example.timeUnixS);
    cause.example = example;
    const node = nodeNameOf(flow.node_name);
    if (!cause.nodes.includes(node) && cause.nodes.length < NODES_MAX) cause.nodes = [...cause.nodes, node];
    const step = Math.floor(example.timeUnixS / TREND_STEP_S);
    cause.steps.set(step, (cause.steps.get(step) ?? 0) + 1);
    if (cause.steps.size > 2 * TREND_STEPS) {
      for (const old of cause.steps.keys()) if (old <= step - TREND_STEPS) cause.steps.delete(old);
    }
  }

  /** Forgets causes that were silent since `beforeS`. */
  forget(beforeS: number): void {
    for (const [key, { lastSeenUnixS }] of this.#causes) {
      if (lastSeenUnixS < beforeS) this.#causes.delete(key);
    }
  }

  /** All causes, the most frequent first, with trends that end at `nowS`. */
  list(nowS: number): DropCause[] {
    const last = Math.floor(nowS / TREND_STEP_S);
    return [...this.#causes.values()].map(({ steps, ...cause }) => ({
      ...cause,
      trend: Array.from({ length: TREND_STEPS }, (_, i) => steps.get(last - TREND_STEPS + 1 + i) ?? 0),
    })).sort((a, b) => b.count - a.count || b.lastSeenUnixS - a.lastSeenUnixS);
  }

  #forgetOldest(): void {
    const [key, cause] = this.#causes.entries().next().value!;
    this.folded += cause.count;
    this.#causes.delete(key);
  }
}

/** What causes are told apart by. */
export interface CauseParts {
  /** Ids of cards (workloads). */
  readonly from: string;
  readonly to: string;
  readonly protocol: string;
  readonly port: number;
  readonly reason: string;
  readonly direction: string;
  /** Names of objects. */
  readonly policies: readonly string[];
}

/** Causes with the same key are one: of now and of the past. Pure. */
export function causeKey({ from, to, protocol, port, reason, direction, policies }: CauseParts): string {
  const names = [...new Set(policies)].sort().join(",");
  return [from, to, protocol, port, reason, direction, names].join(" ");
}

/** For people: what dropped it. Pure. @param text What the reason's number is called */
export function reasonText(reason: string, hasPolicies: boolean, text: string = reason): string {
  if (reason === "POLICY_DENIED" && hasPolicies) {
    return "no rule allows it (default deny)";
  }
  return reason === "POLICY_DENY" ? "a rule denies it" : text;
}

/** Of a card for people: "shop/cart". Pure. */
export function nameOf({ name, namespace }: { name: string; namespace: string }): string {
  return namespace === "" ? name : `${namespace}/${name}`;
}

/** A short name of a cause: the same in every server. */
export function idOf(key: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(key)) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  }
  return hash.toString(16).padStart(16, "0");
}
