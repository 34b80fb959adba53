/** What the cache of selectors hands out. @module */
import type { PeerSelector } from "./policy.ts";

/** A selector that is in use, and whom it means now. */
export interface CachedSelector {
  readonly selector: PeerSelector;
  readonly key: string;
  /** Numbers of the identities that it means. Read only outside the cache. */
  readonly matches: Set<number>;
  /** It may mean a prefix and not one inside it. */
  readonly hasExceptions: boolean;
}
