/** Questions to the flow history, each about one window. @module */
import type { WeirClient } from "@weir/client";
import { type Clock, ProblemError } from "@weir/common";
import type { Init, Message } from "@weir/proto";
import type { Flow } from "@weir/proto/flow";
import type { Completeness as StoredCompleteness } from "@weir/proto/history";
import {
  FlowPage as StoredPage,
  HistoryStatus,
  HoldingPage,
  PreviewAnswer,
  PreviewRequest,
  RollupAnswer,
} from "@weir/proto/history";
import type { Completeness } from "../api.ts";

const PAGE = 1000, ASK_MS_MAX = 12_000, PREVIEW_MS_MAX = 60_000, STATUS_MS_MAX = 2000, HOLDINGS_MAX = 200_000;
/** Groups of sums of one answer; the history gives no more. */
const GROUPS_MAX = 50_000;

/** A window of time, Unix seconds. */
export interface Window {
  readonly sinceS: number;
  readonly untilS: number;
}

/** Parameters of a filter, each with all of its values: `{"from-pod": ["shop/cart"], "not-port": ["53"]}`. */
export type FilterParameters = Readonly<Record<string, readonly string[]>>;

/** Asks the history. All questions throw {@link ProblemError}: what the history says, or that it is away. */
export class HistoryReader {
  readonly #client: WeirClient;
  readonly #clock: Clock;

  constructor(client: WeirClient, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
  }

  async status(): Promise<HistoryStatus> {
    return await this.#client.call("/v1/status", {
      method: "GET",
      response: HistoryStatus,
      deadlineMs: STATUS_MS_MAX,
    });
  }

  /** Sums of whole minutes. @param by Dimensions, at most 8. @param stepS 0: one sum over the window */
  async sums(
    { sinceS, untilS }: Window,
    by: readonly string[],
    { filter = {}, stepS = 0 }: { filter?: FilterParameters; stepS?: number } = {},
  ): Promise<RollupAnswer> {
    return await this.#client.call("/v1/rollups", {
      method: "GET",
      response: RollupAnswer,
      query: {
        ...mutable(filter),
        by: [...by],
        since: textOf(sinceS),
        until: textOf(untilS),
        limit: GROUPS_MAX,
        ...(stepS === 0 ? {} : { step: `${stepS}s` }),
      },
      deadlineMs: ASK_MS_MAX,
    });
  }

  /** The newest flows of a window, the oldest first. */
  async flows(
    { sinceS, untilS }: Window,
    flowsMax: number,
    filter: FilterParameters = {},
  ): Promise<{ flows: Flow[]; completeness: Completeness; more: boolean }> {
    const startMs = this.#clock.monotonicMs(), flows: Flow[] = [];
    let after = "", stored: StoredCompleteness | undefined;
    do {
      const page = await this.#client.call("/v1/flows", {
        method: "GET",
        response: StoredPage,
        query: {
          ...mutable(filter),
          since: textOf(sinceS),
          until: textOf(untilS),
          last: Math.min(PAGE, flowsMax - flows.length),
          after,
        },
        deadlineMs: ASK_MS_MAX,
      });
      flows.push(...page.flows);
      stored ??= page.completeness;
      after = page.next;
    } while (after !== "" && flows.length < flowsMax && this.#clock.monotonicMs() - startMs < ASK_MS_MAX);
    const more = after !== "", isFiltered = Object.keys(filter).length > 0;
    return {
      flows: flows.reverse(),
      more,
      completeness: {
        seen: stored?.seen ?? flows.length,
        shown: flows.length,
        lost: stored?.lost ?? 0,
        sampled: stored === undefined || stored.seen === 0 ? 1 : Math.min(1, stored.stored / stored.seen),
        text: flowsText({ shown: flows.length, more, isFiltered, stored: stored?.text }),
      },
    };
  }

  /** What policies would do to recorded connections. */
  async preview(value: Init<PreviewRequest>, signal: AbortSignal): Promise<PreviewAnswer> {
    return await this.#client.call("/v1/preview", {
      request: { message: PreviewRequest, value },
      response: PreviewAnswer,
      deadlineMs: PREVIEW_MS_MAX,
      signal,
    });
  }

  /** What held at a time. @throws {ProblemError} HISTORY_TOO_YOUNG */
  async held<T>(atS: number, kind: string, message: Message<T>): Promise<T[]> {
    const objects: T[] = [];
    for (let after = "";;) {
      const page = await this.#client.call("/v1/holdings", {
        method: "GET",
        response: HoldingPage,
        query: { at: textOf(atS), kind, after },
        deadlineMs: ASK_MS_MAX,
      });
      if (page.knownSinceUnixS === 0 || atS < page.knownSinceUnixS) {
        throw new ProblemError("HISTORY_TOO_YOUNG", {
          status: 404,
          detail: "Cannot tell what held then: the flow history knows policies only from later on",
        });
      }
      objects.push(...page.holdings.map(({ object }) => message.decode(object)));
      if (page.next === "" || objects.length >= HOLDINGS_MAX) return objects;
      after = page.next;
    }
  }
}

/** The whole minutes that a window touches: sums know no shorter time. Pure. */
export function wholeMinutes({ sinceS, untilS }: Window): Window {
  return { sinceS: Math.floor(sinceS / 60) * 60, untilS: Math.ceil(untilS / 60) * 60 };
}

/** For people: how many flows an answer is made of. Pure. */
function flowsText(
  { shown, more, isFiltered, stored }: {
    shown: number;
    more: boolean;
    isFiltered: boolean;
    stored: string | undefined;
  },
): string {
  const count = shown.toLocaleString("en-US"), all = stored ?? `${count} flows`;
  if (!isFiltered) return more ? `the newest ${count} of ${all}` : all;
  return more ? `the newest ${count} that match, of ${all}` : `${count} match, of ${all}`;
}

const mutable = (filter: FilterParameters) =>
  Object.fromEntries(Object.entries(filter).map(([name, values]) => [name, [...values]]));

function textOf(unixS: number): string {
  return new Date(unixS * 1000).toISOString();
}
