/**
 * Policies, identities and addresses with the time in which they held, so that an old flow can be explained by what was then. What changed
 * while nobody looked has its time from the next look, and says that it is not exact.
 *
 *     Reflector ── a change ──▶ HeldChange ── with the next write ──▶ weir_history_held
 *
 * @module
 */
import { Reflector, type WeirClient } from "@weir/client";
import type { Clock, Logger } from "@weir/common";
import type { Message } from "@weir/proto";
import { Identity, IpcacheEntry } from "@weir/proto/identity";
import { Policy } from "@weir/proto/policy";
import { wordOf } from "./word.ts";

/** Kinds of objects that are kept. */
export const HELD_KINDS = ["policy", "identity", "address"] as const;
export type HeldKind = typeof HELD_KINDS[number];
/** Changes that wait to be written; beyond it they are looked for anew at the next start. */
export const HELD_WAITING_MAX = 100_000;
/** What they say, in bytes. */
export const HELD_WAITING_BYTES_MAX = 64 << 20;

/** From `atMs` on this object is so, or is gone. */
export interface HeldChange {
  readonly kind: HeldKind;
  readonly name: string;
  readonly atMs: number;
  /** It changed then; else then was the first look. */
  readonly isExact: boolean;
  /** undefined: gone. */
  readonly body: Uint8Array | undefined;
}

/** What one kind needs of its objects. */
interface Source<T> {
  readonly kind: HeldKind;
  readonly reflector: Reflector<T>;
}

/** Follows what holds. */
export class HeldObjects {
  readonly #clock: Clock;
  #sources: Source<unknown>[] = [];
  /** What is written or waits, as "kind name" -> digest. */
  readonly #known = new Map<string, number>();
  #changes: HeldChange[] = [];
  #waitingBytes = 0;
  /** Kinds whose first list was compared with what was written. */
  readonly #compared = new Set<HeldKind>();
  /** Changes that found no room. */
  refused = 0;

  /** Give {@link restore} what is written before the first {@link start}. */
  constructor(parts: { clock: Clock }) {
    this.#clock = parts.clock;
  }

  /** What is written as holding still. */
  restore(rows: Iterable<{ kind: string; name: string; body: Uint8Array }>): void {
    for (const { kind, name, body } of rows) this.#known.set(`${kind} ${name}`, digest(body));
  }

  /** Begins to follow. Resolves at once. */
  start(
    { allocator, policyEngine, log }: { allocator: WeirClient; policyEngine: WeirClient; log: Logger },
  ): void {
    // Numbers of references come and go and say nothing about a flow.
    this.#follow(
      "identity",
      allocator,
      "identities",
      Identity,
      log,
      ({ number, labels }) => ({ number, labels }),
    );
    this.#follow("address", allocator, "ipcache", IpcacheEntry, log, (entry) => entry);
    this.#follow("policy", policyEngine, "policies", Policy, log, (policy) => policy);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#sources.map(({ reflector }) => reflector.stop()));
  }

  /** Which kinds are not known yet, with the reason. */
  get waitingFor(): string[] {
    return this.#sources.filter(({ reflector }) => !reflector.synced).map(({ kind, reflector }) =>
      `${kind}: ${reflector.error?.message ?? "loading"}`
    );
  }

  /** Takes a look at an object. `isExact`: it changed now. */
  see(kind: HeldKind, given: string, body: Uint8Array | undefined, isExact: boolean): void {
    const name = wordOf(given), length = body?.length ?? 0;
    const key = `${kind} ${name}`, known = this.#known.get(key);
    const now = body === undefined ? undefined : digest(body);
    if (known === now) return;
    if (this.#changes.length >= HELD_WAITING_MAX || this.#waitingBytes + length > HELD_WAITING_BYTES_MAX) {
      this.refused++;
      return;
    }
    if (now === undefined) this.#known.delete(key);
    else this.#known.set(key, now);
    this.#changes.push({ kind, name, atMs: this.#clock.nowMs(), isExact, body });
    this.#waitingBytes += length;
  }

  /** The first list of a kind is complete: what is written and not in it is gone. */
  compare(kind: HeldKind, names: ReadonlySet<string>): void {
    if (this.#compared.has(kind)) return;
    this.#compared.add(kind);
    const kept = new Set([...names].map(wordOf));
    for (const key of [...this.#known.keys()]) {
      if (!key.startsWith(`${kind} `)) continue;
      const name = key.slice(kind.length + 1);
      if (!kept.has(name)) this.see(kind, name, undefined, false);
    }
  }

  /** What is to be written. */
  take(): HeldChange[] {
    this.#waitingBytes = 0;
    return this.#changes.splice(0);
  }

  #follow<T>(
    kind: HeldKind,
    client: WeirClient,
    collection: string,
    message: Message<T>,
    log: Logger,
    kept: (value: T) => unknown,
  ): void {
    const reflector: Reflector<T> = new Reflector(client.collection(collection, message), {
      log,
      onChange: (name, value) => {
        const body = value === undefined ? undefined : message.encode(kept(value) as never);
        this.see(kind, name, body, this.#compared.has(kind));
      },
      onSynced: () => this.compare(kind, new Set(reflector.entries().map(([name]) => name))),
    });
    this.#sources.push({ kind, reflector: reflector as Reflector<unknown> });
    reflector.start();
  }
}

/** 53 bits of the bytes (two FNV-1a). Pure. */
function digest(bytes: Uint8Array): number {
  let low = 0x811c9dc5, high = 0x9dc5811c;
  for (const byte of bytes) {
    low = Math.imul(low ^ byte, 0x01000193);
    high = Math.imul(high ^ byte, 0x01000193 + 2);
  }
  return (high >>> 11) * 2 ** 32 + (low >>> 0);
}
