/**
 * What nodes say of their pods and of Services, as Events of Kubernetes: beside the object, where people look. A node speaks of
 * pods of its own alone; what it repeats is counted in one Event; a flood is dropped, and counted.
 * @module
 */
import {
  type Clock,
  type Logger,
  type MetricsRegistry,
  type Peer,
  ProblemError,
  type WatchedTable,
} from "@weir/common";
import { type KubernetesPod, type NodeEvent, NodeEventResponse } from "@weir/proto/kubernetes";
import type { ApiClient } from "./api/client.ts";
import { type Resource, RESOURCES } from "./api/resource.ts";
import { TokenBucket } from "./operator/token_bucket.ts";

/** Events that are remembered, so that they are counted; the oldest go first. */
export const EVENTS_MAX = 1_000;
/** Requests each second, and at once. */
const RATE_PER_S = 5, BURST = 50;
/** The same within this time is one, milliseconds. */
const REPEAT_MS = 10_000;
const MESSAGE_CHARS_MAX = 1_000;
const REASON = /^[A-Z][A-Za-z]{0,62}$/;
const KINDS: Readonly<Record<string, Resource>> = { Pod: RESOURCES.Pod, Service: RESOURCES.Service };

/** What {@link NodeEvents} are made of. */
export interface NodeEventsParts {
  client: ApiClient;
  pods: WatchedTable<KubernetesPod>;
  clock: Clock;
  log: Logger;
  metrics: MetricsRegistry;
}

interface Remembered {
  name: string;
  count: number;
  lastMs: number;
}

/** Writes them. */
export class NodeEvents {
  readonly #parts: NodeEventsParts;
  readonly #remembered = new Map<string, Remembered>();
  readonly #bucket: TokenBucket;
  readonly #totals = { written: 0, dropped: 0, failed: 0 };

  constructor(parts: NodeEventsParts) {
    this.#parts = parts;
    this.#bucket = new TokenBucket(RATE_PER_S, BURST, parts.clock.monotonicMs());
    parts.metrics.gauge(
      "weir_kubernetes_node_events",
      "Events of nodes since the start, by whether they were written, dropped (repeated, too many) or refused",
    ).collect(() => Object.entries(this.#totals).map(([result, count]) => [{ result }, count]));
  }

  /** Takes what a node says. What cannot be written is dropped: the node says it again. @throws {ProblemError} NOT_OWNER, INVALID_ARGUMENT */
  async tell(event: NodeEvent, peer?: Peer): Promise<NodeEventResponse> {
    this.#judge(event, peer);
    const { clock, log } = this.#parts;
    const key = [event.node, event.kind, event.namespace, event.name, event.uid, event.reason].join("/");
    const before = this.#remembered.get(key), nowMs = clock.nowMs();
    const isRepeated = before !== undefined && nowMs >= before.lastMs && nowMs - before.lastMs < REPEAT_MS;
    if (isRepeated || this.#bucket.take(clock.monotonicMs()) > 0) {
      this.#totals.dropped++;
      return NodeEventResponse.create({ written: false });
    }
    try {
      const name = before && await this.#repeat(event, before, nowMs) || await this.#write(event, nowMs);
      this.#remember(key, { name, count: name === before?.name ? before.count + 1 : 1, lastMs: nowMs });
      this.#totals.written++;
      return NodeEventResponse.create({ written: true });
    } catch (error) {
      this.#totals.failed++;
      log.warn("Cannot write an event of a node", {
        event: key,
        error: error instanceof Error ? error.message : String(error),
      });
      return NodeEventResponse.create({ written: false });
    }
  }

  #judge(event: NodeEvent, peer: Peer | undefined): void {
    const { node, kind, namespace, name, uid, reason } = event;
    const fault = node === "" || namespace === "" || name === ""
      ? "it names no node or no object"
      : !Object.hasOwn(KINDS, kind)
      ? `its kind is ${JSON.stringify(kind.slice(0, 40))}`
      : !REASON.test(reason)
      ? "its reason is no word"
      : "";
    if (fault !== "") {
      throw new ProblemError("INVALID_ARGUMENT", {
        status: 422,
        detail: `Cannot take the event: ${fault}`,
        expected: `a node, a namespace, a name, a kind of ${
          Object.keys(KINDS).join(" or ")
        }, a reason in CamelCase`,
      });
    }
    const pod = kind === "Pod" ? this.#parts.pods.get(`${namespace}/${name}`) : undefined;
    const isOwn = kind !== "Pod" || (pod !== undefined && pod.node === node && pod.uid === uid);
    if (isOwn && (peer?.role !== "node" || peer.node === node)) return;
    throw new ProblemError("NOT_OWNER", {
      status: 403,
      detail: `Cannot take an event of ${kind} ${namespace}/${name} from node ${peer?.node ?? node}`,
      expected: "a pod that runs on the node that speaks, by its uid",
    });
  }

  /** The Event once more; undefined: it is gone, as Events are after an hour. */
  async #repeat(
    { namespace, message }: NodeEvent,
    before: Remembered,
    nowMs: number,
  ): Promise<string | undefined> {
    try {
      await this.#parts.client.patch(RESOURCES.Event, before.name, {
        count: before.count + 1,
        lastTimestamp: secondsText(nowMs),
        message: message.slice(0, MESSAGE_CHARS_MAX),
      }, { namespace });
      return before.name;
    } catch (error) {
      if (error instanceof ProblemError && error.code === "NOT_FOUND") return undefined;
      throw error;
    }
  }

  async #write(event: NodeEvent, nowMs: number): Promise<string> {
    const { client } = this.#parts, { node, kind, namespace, name, reason, message } = event;
    // People ask by the uid of the object.
    const uid = event.uid || (await client.get(KINDS[kind], name, { namespace })).metadata.uid;
    const time = secondsText(nowMs), suffix = crypto.randomUUID().slice(0, 8);
    const { metadata } = await client.create(RESOURCES.Event, {
      metadata: { name: `${name.slice(0, 200)}.${suffix}`, namespace },
      involvedObject: { apiVersion: "v1", kind, namespace, name, uid },
      reason,
      message: message.slice(0, MESSAGE_CHARS_MAX),
      type: "Warning",
      source: { component: "weir", host: node },
      reportingComponent: "weir.dev/endpoint-manager",
      reportingInstance: node,
      firstTimestamp: time,
      lastTimestamp: time,
      count: 1,
      // deno-lint-ignore no-explicit-any
    } as any);
    return metadata.name;
  }

  #remember(key: string, remembered: Remembered): void {
    this.#remembered.delete(key);
    this.#remembered.set(key, remembered);
    const [oldest] = this.#remembered.keys();
    if (this.#remembered.size > EVENTS_MAX) this.#remembered.delete(oldest);
  }
}

function secondsText(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}
