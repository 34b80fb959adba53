/**
 * What happened on this node beside traffic, in Hubble's messages: endpoints that come and go, policies that change, addresses
 * that are learned. Made from the copies that the flow exporter keeps anyway; the newest are held.
 * @module
 */
import type { Init } from "@weir/proto";
import type { Endpoint } from "@weir/proto/endpoint";
import { AgentEvent } from "@weir/proto/flow";
import type { IpcacheEntry } from "@weir/proto/identity";
import type { GetAgentEventsRequest, GetAgentEventsResponse } from "@weir/proto/observer";
import type { Rule } from "@weir/proto/policy";
import { timestampOf } from "@weir/proto/timestamp";
import { FlowRing } from "../flow_ring.ts";

/** Events that are held. */
export const AGENT_EVENTS_MAX = 1023;
/** Rules of one policy that change within this time are one change of the policy. */
export const POLICY_SETTLES_MS = 200;

/** Sent where the request names no number and does not follow. */
const EVENTS_DEFAULT = 20;

interface Held {
  readonly unixMs: number;
  readonly event: AgentEvent;
}

/** Where the time comes from. */
export interface EventTime {
  nowMs(): number;
  /** Calls later; who stops gets no call. */
  later(ms: number, call: () => void): void;
}

/** Makes events of changes. */
export class AgentEvents {
  readonly #ring = new FlowRing<Held>(AGENT_EVENTS_MAX);
  readonly #time: EventTime;
  /** Cookies of the rules of each policy. */
  readonly #rules = new Map<string, Set<number>>();
  readonly #changed = new Set<string>();

  constructor(time: EventTime) {
    this.#time = time;
    this.#push({ type: "AGENT_STARTED", agent_start: { time: timestampOf(time.nowMs()) } });
  }

  endpoint(now: Endpoint | undefined, before: Endpoint | undefined): void {
    const known = now ?? before;
    if (known === undefined) return;
    const { status, namespace, podName, name } = known;
    const update = {
      id: status?.id ?? 0,
      labels: [...status?.identityLabels ?? []],
      namespace,
      pod_name: podName || name.split("/").at(-1)!,
    };
    if (now === undefined || before === undefined) {
      const type = now === undefined ? "ENDPOINT_DELETED" : "ENDPOINT_CREATED";
      return this.#push({ type, endpoint_update: update });
    }
    const error = status?.error?.error ?? "", was = before.status?.error?.error ?? "";
    const { id, labels } = update;
    if (error !== "" && error !== was) {
      this.#push({ type: "ENDPOINT_REGENERATE_FAILURE", endpoint_regenerate: { id, labels, error } });
    } else if (error === "" && status?.policyRevision !== before.status?.policyRevision) {
      this.#push({ type: "ENDPOINT_REGENERATE_SUCCESS", endpoint_regenerate: { id, labels } });
    }
  }

  address(now: IpcacheEntry | undefined, before: IpcacheEntry | undefined): void {
    const known = now ?? before;
    if (known === undefined) return;
    const same = now?.identity === before?.identity && now?.nodeIpv4 === before?.nodeIpv4;
    if (now !== undefined && before !== undefined && same) return;
    this.#push({
      type: now === undefined ? "IPCACHE_DELETED" : "IPCACHE_UPSERTED",
      ipcache_update: {
        cidr: known.prefix,
        identity: known.identity,
        old_identity: now && before && { value: before.identity },
        host_ip: known.nodeIpv4 || known.nodeIpv6,
        old_host_ip: now && before ? before.nodeIpv4 || before.nodeIpv6 : "",
        namespace: known.namespace,
        pod_name: known.podName,
      },
    });
  }

  /** A rule came, changed or went. */
  rule(now: Rule | undefined, before: Rule | undefined): void {
    for (const { policy } of before?.sources ?? []) {
      this.#rules.get(policy)?.delete(before!.cookie);
      this.#touch(policy);
    }
    for (const { policy } of now?.sources ?? []) {
      this.#rules.set(policy, (this.#rules.get(policy) ?? new Set()).add(now!.cookie));
      this.#touch(policy);
    }
  }

  #touch(policy: string): void {
    if (this.#changed.size === 0) this.#time.later(POLICY_SETTLES_MS, () => this.#tellPolicies());
    this.#changed.add(policy);
  }

  #tellPolicies(): void {
    for (const policy of this.#changed) {
      const rules = this.#rules.get(policy)?.size ?? 0;
      if (rules === 0) this.#rules.delete(policy);
      const labels = [`weir:policy=${policy}`];
      this.#push({
        type: rules === 0 ? "POLICY_DELETED" : "POLICY_UPDATED",
        policy_update: { labels, rule_count: rules },
      });
    }
    this.#changed.clear();
  }

  #push(event: Init<AgentEvent>): void {
    this.#ring.push({ unixMs: this.#time.nowMs(), event: AgentEvent.create(event) });
  }

  /** Answers a request, oldest first; with `follow` it goes on until `signal` aborts. */
  async *answer(
    request: GetAgentEventsRequest,
    { nodeName, signal }: { nodeName: string; signal: AbortSignal },
  ): AsyncGenerator<GetAgentEventsResponse[]> {
    const since = msOf(request.since) ?? -Infinity, until = msOf(request.until) ?? Infinity;
    const matches = ({ unixMs }: Held) => unixMs >= since && unixMs <= until;
    const isTimed = request.since !== undefined || request.until !== undefined;
    const number = request.number ||
      (request.follow && !request.since ? 0 : isTimed ? AGENT_EVENTS_MAX : EVENTS_DEFAULT);
    const answerOf = ({ unixMs, event }: Held): GetAgentEventsResponse => ({
      agent_event: event,
      node_name: nodeName,
      time: timestampOf(unixMs),
    });
    const fromFirst = request.first || request.since !== undefined;
    const history = number === 0
      ? []
      : fromFirst
      ? this.#ring.first(number, matches)
      : this.#ring.last(number, matches);
    const following = request.follow ? this.#ring.follow(signal) : undefined;
    if (history.length > 0) yield history.map(answerOf);
    if (following === undefined) return;
    for await (const batch of following) {
      yield batch.flatMap((read) => "flow" in read ? [answerOf(read.flow)] : []);
    }
  }
}

function msOf(time: { seconds: number; nanos: number } | undefined): number | undefined {
  return time && time.seconds * 1000 + time.nanos / 1e6;
}
