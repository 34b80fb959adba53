/**
 * Identities that addresses of endpoints have, as the cluster's ipcache says it. A node's kernel carries these, whether the allocator's
 * table has them or not: it may have lost them, or have released one while an endpoint still waited to leave it.
 * Pure.
 * @module
 */
import { IDENTITY_ALLOCATED_MIN, isLocalIdentity } from "@weir/common";
import type { IpcacheEntry } from "@weir/proto/identity";

/** What a change of an entry means. */
export interface AnnouncedChange {
  /** An identity whose first address this is. */
  readonly begun?: number;
  /** An identity whose last address this was. */
  readonly ended?: number;
}

/** Counts the addresses of each allocated identity. */
export class AnnouncedIdentities {
  readonly #identityOf = new Map<string, number>();
  readonly #announced = new Map<number, { count: number; labels: readonly string[] }>();

  /** Whether an address has the identity. */
  has(identity: number): boolean {
    return this.#announced.has(identity);
  }

  /** What entries say that it stands for; undefined where no entry names it. The newest counts. */
  labelsOf(identity: number): readonly string[] | undefined {
    return this.#announced.get(identity)?.labels;
  }

  /** An entry that is there, has changed or is gone. */
  set(prefix: string, entry: IpcacheEntry | undefined): AnnouncedChange {
    const before = this.#identityOf.get(prefix);
    const now = entry && entry.node !== "" && isAllocated(entry.identity) ? entry.identity : undefined;
    const known = now === undefined ? undefined : this.#announced.get(now);
    if (known && entry!.labels.length > 0) known.labels = entry!.labels;
    if (before === now) return {};
    if (now === undefined) this.#identityOf.delete(prefix);
    else this.#identityOf.set(prefix, now);
    if (known) known.count++;
    else if (now !== undefined) this.#announced.set(now, { count: 1, labels: entry!.labels });
    const begun = known ? undefined : now;
    const left = before === undefined ? undefined : this.#announced.get(before)!;
    if (left === undefined || --left.count > 0) return { begun };
    this.#announced.delete(before!);
    return { begun, ended: before };
  }
}

function isAllocated(identity: number): boolean {
  return identity >= IDENTITY_ALLOCATED_MIN && !isLocalIdentity(identity);
}
