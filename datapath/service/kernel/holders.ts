/** Who holds what of the tables that traffic fills, as the programs count it, and whom their share refuses. @module */
import type { Clock } from "@weir/common";
import { HOLDING_MAX, type Refused, SHARE_NODE, SHARE_OUTSIDE, SHARES_MAX } from "@weir/maps";
import type { Kernel } from "./kernel.ts";

/** Who was refused within this time presses on its share. */
const PRESSING_MS = 10_000;
/** Elements of weir_holdings that count whole tables. */
const ALL_CT = HOLDING_MAX - 2, ALL_NAT = HOLDING_MAX - 1;

/** One share: the node itself, what an endpoint opened, or what others opened towards an endpoint or to services from outside. */
export interface Holder {
  kind: "node" | "endpoint" | "outside";
  /** Endpoint's id; 0 with "node", and with "outside" services from outside. */
  endpoint: number;
  /** Entries held now. */
  ct: number;
  /** Entries held now, two of a translated flow. */
  nat: number;
  /** New flows that found the share used up. */
  ctRefused: bigint;
  natRefused: bigint;
  /** Translated flows that would have taken too many ports towards one server. */
  portsRefused: bigint;
  /** Handles of the L7 proxy held now. */
  handles: number;
  handlesRefused: bigint;
  /** Something was refused within the last ten seconds. */
  pressing: boolean;
}

/** Who holds what of the tables that traffic fills, as the programs count it, and whom their share refuses. */
export class Holders {
  /** What shares had been refused when it was last looked at, and since when. */
  readonly #refused = new Map<number, { total: bigint; sinceMs: number }>();
  readonly #kernel: Kernel;
  readonly #clock: Clock;
  readonly #ids: () => Iterable<number>;

  /** @param ids endpoints that there are */
  constructor(
    kernel: Kernel,
    clock: Clock,
    ids: () => Iterable<number>,
  ) {
    this.#kernel = kernel;
    this.#clock = clock;
    this.#ids = ids;
    // What was refused before this process began says nothing of now.
    for (const [share, refused] of kernel.typed("weir_refused").entries()) {
      const total = sum(refused);
      if (total > 0n) this.#refused.set(share, { total, sinceMs: -Infinity });
    }
  }

  /** Entries of both tables. */
  get ct(): number {
    return this.#held(ALL_CT);
  }
  get nat(): number {
    return this.#held(ALL_NAT);
  }

  /** Everybody who holds something or was refused something, who holds most first. */
  list(): Holder[] {
    const nowMs = this.#clock.monotonicMs(), refusals = this.#kernel.typed("weir_refused");
    const shares = [SHARE_NODE, SHARE_OUTSIDE];
    for (const id of this.#ids()) shares.push(id, SHARE_OUTSIDE + id);
    const found: Holder[] = [];
    for (const share of shares) {
      const ct = this.#held(share), nat = this.#held(SHARES_MAX + share), refused = refusals.get(share)!;
      const handles = count(this.#kernel.typed("weir_handle_holdings").get(share) ?? 0);
      const total = sum(refused);
      if (ct === 0 && nat === 0 && total === 0n) continue;
      found.push({
        kind: share === SHARE_NODE ? "node" : share >= SHARE_OUTSIDE ? "outside" : "endpoint",
        endpoint: share & (SHARE_OUTSIDE - 1),
        ct,
        nat,
        ctRefused: refused.ct,
        natRefused: refused.nat,
        portsRefused: refused.ports,
        handles,
        handlesRefused: refused.handles,
        pressing: this.#presses(share, total, nowMs),
      });
    }
    return found.sort((a, b) => b.ct + b.nat - a.ct - a.nat);
  }

  #presses(share: number, total: bigint, nowMs: number): boolean {
    if (total === 0n) return false;
    const before = this.#refused.get(share);
    if (before?.total === total) return nowMs - before.sinceMs < PRESSING_MS;
    this.#refused.set(share, { total, sinceMs: nowMs });
    return true;
  }

  #held(element: number): number {
    return count(this.#kernel.typed("weir_holdings").get(element)?.now ?? 0);
  }
}

function sum({ ct, nat, ports, handles }: Refused): bigint {
  return ct + nat + ports + handles;
}

/** Below zero between a race and the next count. */
function count(now: number): number {
  return now > 0x7fff_ffff ? 0 : now;
}
