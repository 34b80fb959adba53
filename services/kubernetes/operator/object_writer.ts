/**
 * Keeps the objects of one kind as they are wanted. What is there is what the API server shows, never what was sent: an object
 * that somebody changed or deleted is put right, and one that is not Weir's is left alone, whatever its name.
 * @module
 */
import type { Clock } from "@weir/common/clock";
import type { Logger } from "@weir/common/log";
import { type ApiClient, type KubernetesObject, type Resource, sameValue } from "../api/mod.ts";
import {
  applyStatus,
  changedConditions,
  type Condition,
  conditionsOf,
  type StoredCondition,
} from "./conditions.ts";
import { FIELD_MANAGER, MANAGED_BY, WEIR } from "./field_manager.ts";
import type { Term } from "./term.ts";
import type { Pace, Write } from "./write_queue.ts";
import { type OnWrite, Writer } from "./writer.ts";

/** What an object is to be: its name, labels, owners, and the fields beside `metadata`; `status` is none of them. */
export interface Wanted {
  metadata: Pick<KubernetesObject["metadata"], "name" | "namespace" | "labels" | "ownerReferences">;
  body: Readonly<Record<string, unknown>>;
}

/** What is kept of an object that is there. */
export interface Observed {
  readonly metadata: KubernetesObject["metadata"];
  readonly body: Readonly<Record<string, unknown>>;
  readonly conditions: readonly StoredCondition[];
}

/** Options of {@link ObjectWriter}. */
export interface ObjectWriterOptions {
  resource: Resource;
  /** Fields that are Weir's, of what stands beside `metadata`. */
  fields: readonly string[];
  /** What the object of this key is to be; undefined: it is not to be there. */
  wanted: (key: string) => Wanted | undefined;
  /** What is said in its status, where the kind has the subresource; undefined: nothing. */
  conditions?: (key: string) => Condition[] | undefined;
  /** Every key that is wanted. */
  keys: () => Iterable<string>;
  /** Whether what is wanted is known: nothing is deleted before. */
  isComplete: () => boolean;
  pace: Pace;
  /** An object that is not wanted any more stays so long, milliseconds. Default 0. */
  deleteDelayMs?: number;
  /** When an object was seen, changed or has gone. */
  onObserved?: (key: string, observed: Observed | undefined) => void;
  clock?: Clock;
  log?: Logger;
  onWrite?: OnWrite;
}

/** Works for one term. */
export class ObjectWriter {
  readonly writer: Writer<Observed>;
  readonly #client: ApiClient;
  readonly #options: ObjectWriterOptions;
  readonly #clock: Clock;
  /** Versions in which the API server keeps something else than what was sent: sent again only after a change. */
  readonly #altered = new Map<string, string>();
  /** When an object was found to be not wanted any more, steady clock. */
  readonly #unwantedMs = new Map<string, number>();

  constructor(client: ApiClient, term: Term, options: ObjectWriterOptions) {
    this.#client = client;
    this.#options = options;
    this.#clock = options.clock ?? client.clock;
    this.writer = new Writer<Observed>(client, term, {
      ...options,
      prune: (object) => observedOf(object, options.fields),
      plan: (key, observed) => this.#plan(key, observed),
      onObserved: (key, value) => {
        if (value === undefined) this.#altered.delete(key);
        options.onObserved?.(key, value);
      },
    });
  }

  #plan(key: string, observed: Observed | undefined): Write | undefined {
    const { wanted: wantedOf, isComplete, deleteDelayMs = 0 } = this.#options;
    const wanted = wantedOf(key);
    if (wanted !== undefined) {
      this.#unwantedMs.delete(key);
      if (observed === undefined) return this.#create(wanted);
      if (!isWeirs(observed) || observed.metadata.deletionTimestamp !== undefined) return undefined;
      if (isAsWanted(observed, wanted)) return this.#say(key, observed);
      if (this.#altered.get(key) === alteredKey(observed, wanted)) return undefined;
      return this.#update(key, wanted, observed);
    }
    if (observed === undefined || !isWeirs(observed) || observed.metadata.deletionTimestamp !== undefined) {
      this.#unwantedMs.delete(key);
      return undefined;
    }
    if (!isComplete()) return undefined;
    const nowMs = this.#clock.monotonicMs();
    const sinceMs = this.#unwantedMs.get(key) ?? nowMs;
    const leftMs = sinceMs + deleteDelayMs - nowMs;
    if (leftMs > 0) {
      this.#unwantedMs.set(key, sinceMs);
      queueMicrotask(() => this.writer.changed(key, leftMs));
      return undefined;
    }
    this.#unwantedMs.delete(key);
    return this.#delete(observed);
  }

  /** What is said of an object that is as it should be. */
  #say(key: string, { metadata, conditions: stored }: Observed): Write | undefined {
    const wanted = this.#options.conditions?.(key);
    if (wanted === undefined) return undefined;
    const conditions = changedConditions(stored, wanted, new Date(this.#clock.nowMs()).toISOString());
    return conditions && applyStatus(this.#client, this.#options.resource, metadata, { conditions });
  }

  #create({ metadata, body }: Wanted): Write {
    const object = { metadata: { ...metadata, labels: { ...metadata.labels, [MANAGED_BY]: WEIR } }, ...body };
    return {
      verb: "create",
      run: (options) => this.#client.create(this.#options.resource, object, { ...options, ...MANAGER }),
    };
  }

  /** Changes Weir's fields of exactly the version that was seen. */
  #update(key: string, wanted: Wanted, observed: Observed): Write {
    const { name, namespace, resourceVersion, labels } = observed.metadata;
    const patch = [
      { op: "replace", path: "/metadata/resourceVersion", value: resourceVersion },
      ...Object.entries(wanted.metadata.labels ?? {})
        .filter(([label, value]) => labels?.[label] !== value)
        .map(([label, value]) => ({ op: "add", path: `/metadata/labels/${pointer(label)}`, value })),
      ...(wanted.metadata.ownerReferences === undefined ||
          sameValue(observed.metadata.ownerReferences, wanted.metadata.ownerReferences)
        ? []
        : [{ op: "add", path: "/metadata/ownerReferences", value: wanted.metadata.ownerReferences }]),
      ...Object.entries(wanted.body)
        .filter(([field, value]) => !sameValue(observed.body[field], value))
        .map(([field, value]) => ({ op: "add", path: `/${pointer(field)}`, value })),
    ];
    return {
      verb: "patch",
      run: async (options) => {
        const answer = await this.#client.patch(this.#options.resource, name, patch, {
          ...options,
          ...MANAGER,
          namespace,
          type: "json",
        });
        const kept = observedOf(answer, this.#options.fields);
        if (isAsWanted(kept, wanted)) return void this.#altered.delete(key);
        this.#altered.set(key, alteredKey(kept, wanted));
        this.#options.log?.warn("The API server keeps something else than what was written", {
          resource: this.writer.name,
          key,
        });
      },
    };
  }

  #delete({ metadata }: Observed): Write {
    const { name, namespace, uid, resourceVersion } = metadata;
    return {
      verb: "delete",
      run: (options) =>
        this.#client.delete(this.#options.resource, name, { ...options, namespace, uid, resourceVersion }),
    };
  }
}

const MANAGER = { fieldManager: FIELD_MANAGER };

/** What is kept of an object. */
function observedOf(object: KubernetesObject, fields: readonly string[]): Observed {
  const { name, namespace, uid, resourceVersion, labels, ownerReferences, deletionTimestamp } =
    object.metadata;
  return {
    metadata: { name, namespace, uid, resourceVersion, labels, ownerReferences, deletionTimestamp },
    body: Object.fromEntries(fields.map((field) => [field, object[field]])),
    conditions: conditionsOf(object),
  };
}

function isAsWanted(observed: Observed, { metadata, body }: Wanted): boolean {
  const { labels, ownerReferences } = observed.metadata;
  return Object.entries(body).every(([field, value]) => sameValue(observed.body[field], value)) &&
    Object.entries(metadata.labels ?? {}).every(([label, value]) => labels?.[label] === value) &&
    (metadata.ownerReferences === undefined || sameValue(ownerReferences, metadata.ownerReferences));
}

/** Whether Weir made the object. */
export function isWeirs({ metadata }: Pick<Observed, "metadata">): boolean {
  return metadata.labels?.[MANAGED_BY] === WEIR;
}

function alteredKey({ metadata }: Observed, wanted: Wanted): string {
  return `${metadata.resourceVersion} ${JSON.stringify(wanted)}`;
}

/** A name in a JSON pointer. */
function pointer(name: string): string {
  return name.replaceAll("~", "~0").replaceAll("/", "~1");
}
