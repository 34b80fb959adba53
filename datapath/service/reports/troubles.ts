/**
 * Flows that policy allows and that fail all the same, by endpoint: `usage.troubles`, metrics. The programs count, exactly
 * (datapath/bpf/lib/trouble.h).
 * @module
 */
import type { MetricsRegistry } from "@weir/common";
import { EVENT_OUTSIDE } from "@weir/maps";
import { EndpointTroubles } from "@weir/proto/datapath";
import { TROUBLE, TROUBLES } from "@weir/proto/numbers";
import type { Kernel } from "../kernel/kernel.ts";

/** Where the numbers come from. */
export interface TroubleParts {
  kernel: Kernel;
  /** Ids that there are. */
  endpoints: () => Iterable<number>;
  nameOf: (id: number) => string;
  /** Segments that an endpoint has sent again; undefined: not known. */
  retransmitted: (endpoint: string) => number | undefined;
}

/** Reads the counters of the programs. */
export class Troubles {
  readonly #parts: TroubleParts;

  constructor(parts: TroubleParts) {
    this.#parts = parts;
  }

  /** Who has had any, worst first. */
  list(): EndpointTroubles[] {
    return this.#counts().map(({ endpoint, side, counts }) =>
      EndpointTroubles.create({
        endpoint,
        side,
        noAnswer: counts[TROUBLE.NO_ANSWER],
        refused: counts[TROUBLE.REFUSED],
        unreachable: counts[TROUBLE.UNREACHABLE],
        tooBig: counts[TROUBLE.TOO_BIG],
        unconfirmed: counts[TROUBLE.UNCONFIRMED],
        retransmitted: counts[TROUBLE.RETRANSMITTED],
      })
    ).sort((a, b) => sum(b) - sum(a));
  }

  /** The endpoint is gone: who has its number next begins with none. */
  forget(id: number): void {
    for (const element of [id, EVENT_OUTSIDE + id]) this.#parts.kernel.typed("weir_troubles").clear(element);
  }

  mountMetrics(metrics: MetricsRegistry): void {
    metrics.gauge(
      "weir_endpoint_flow_troubles",
      "Flows that policy allows and that failed, by endpoint, side (opened, towards) and what was wrong",
    ).collect(() =>
      this.#counts().flatMap(({ endpoint, side, counts }) =>
        TROUBLES.map(({ number, text }): [Record<string, string>, number] => [
          { endpoint, side, trouble: text },
          counts[number],
        ])
      )
    );
  }

  #counts(): { endpoint: string; side: string; counts: number[] }[] {
    const map = this.#parts.kernel.typed("weir_troubles");
    return [0, ...this.#parts.endpoints()].flatMap((id) => {
      const endpoint = id === 0 ? "" : this.#parts.nameOf(id) || `endpoint ${id}`;
      return [["opened", id], ["towards", EVENT_OUTSIDE + id]].slice(0, id === 0 ? 1 : 2).map((
        [side, element],
      ) => ({
        endpoint,
        side: side as string,
        counts: (map.get(element as number)?.counts ?? []).map((count, kind) =>
          kind === TROUBLE.RETRANSMITTED && side === "opened"
            ? this.#parts.retransmitted(endpoint) ?? 0
            : Number(count)
        ),
      }));
    }).filter(({ counts }) => counts.some((count) => count > 0));
  }
}

/** (A segment that is sent again is no flow that fails.) */
function sum({ noAnswer, refused, unreachable, tooBig, unconfirmed }: EndpointTroubles): number {
  return noAnswer + refused + unreachable + tooBig + unconfirmed;
}
