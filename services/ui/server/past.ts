/**
 * Windows of the past, asked of the flow history: the same picture as of now, made from the flows that are stored, and explained by
 * the policies, identities and addresses that held then.
 * @module
 */
import { WeirClient } from "@weir/client";
import { type Clock, errorText, ProblemError } from "@weir/common";
import type { Init, Message } from "@weir/proto";
import type { Flow } from "@weir/proto/flow";
import { FlowPage as StoredPage, HistoryStatus, HoldingPage, RollupAnswer } from "@weir/proto/history";
import type { Completeness as StoredCompleteness } from "@weir/proto/history";
import { Identity, IpcacheEntry } from "@weir/proto/identity";
import { ExplainRequest, Policy } from "@weir/proto/policy";
import { explainPast } from "@weir/policy-engine/past";
import type { Completeness, Explanation, FlowPage, Group, TimeStrip } from "../api.ts";
import type { EndNames } from "./flow_end.ts";
import { FlowPicture } from "./flow_picture.ts";
import { rowOf } from "./flow_row.ts";
import { MapView } from "./map_view.ts";
import { explanationOf } from "./policies.ts";

/** Flows that a window is made of; of more the newest, and the answer says so. */
export const WINDOW_FLOWS_MAX = 20_000;
const WINDOWS_MAX = 6, PAGE = 1000, ASK_MS_MAX = 12_000;
/** A window that reaches so near to now still fills. */
const FRESH_S = 60, FRESH_MS = 5000;
const STATUS_MS = 3000, HOLDINGS_MAX = 200_000;
const BUCKETS_MAX = 1000;

/** A window of time, Unix seconds. */
export interface Window {
  readonly sinceS: number;
  readonly untilS: number;
}

/** One window, added up. */
export interface PastWindow extends Window {
  readonly picture: FlowPicture;
  readonly completeness: Completeness;
  view(group: Group): MapView;
}

/** Whether there is a past. */
export interface PastState {
  readonly history: boolean;
  readonly reason: string;
  readonly sinceUnixS: number;
}

/** Options of {@link Past}. */
export interface PastOptions {
  /** Address of the flow history; undefined: none. */
  readonly address: string | undefined;
  readonly names: EndNames;
  readonly clock: Clock;
  readonly cluster: string;
}

/** The past. */
export class Past {
  readonly #options: PastOptions;
  readonly #client: WeirClient | undefined;
  readonly #windows = new Map<string, { made: Promise<PastWindow>; atMs: number }>();
  #state: { value: PastState; atMs: number } | undefined;

  constructor(options: PastOptions) {
    this.#options = options;
    this.#client = options.address === undefined ? undefined : new WeirClient(options.address);
  }

  close(): void {
    this.#client?.close();
  }

  /** Whether windows can be asked for. Never rejects. */
  async state(): Promise<PastState> {
    const { clock } = this.#options;
    if (this.#client === undefined) {
      return { history: false, reason: "there is no flow history on this machine", sinceUnixS: 0 };
    }
    if (this.#state !== undefined && clock.monotonicMs() - this.#state.atMs < STATUS_MS) {
      return this.#state.value;
    }
    let value: PastState;
    try {
      const { oldestUnixS, state, error } = await this.#client.call("/v1/status", {
        method: "GET",
        response: HistoryStatus,
        deadlineMs: 2000,
      });
      const isThere = state !== "standby" && oldestUnixS > 0;
      const reason = isThere
        ? ""
        : state === "standby"
        ? "another replica has the history"
        : "it has no flows yet";
      value = { history: isThere, reason: reason || error, sinceUnixS: oldestUnixS };
    } catch (error) {
      value = { history: false, reason: errorText(error), sinceUnixS: 0 };
    }
    this.#state = { value, atMs: clock.monotonicMs() };
    return value;
  }

  /** A window, from memory where it was asked for just now. @throws {ProblemError} */
  async window(window: Window): Promise<PastWindow> {
    const { clock } = this.#options, nowMs = clock.monotonicMs(), key = `${window.sinceS} ${window.untilS}`;
    const known = this.#windows.get(key);
    const isFresh = window.untilS > clock.nowMs() / 1000 - FRESH_S;
    if (known !== undefined && (!isFresh || nowMs - known.atMs < FRESH_MS)) return await known.made;
    this.#windows.delete(key);
    if (this.#windows.size >= WINDOWS_MAX) this.#windows.delete(this.#windows.keys().next().value!);
    const made = this.#make(window);
    this.#windows.set(key, { made, atMs: nowMs });
    try {
      return await made;
    } catch (error) {
      this.#windows.delete(key);
      throw error;
    }
  }

  /** Rows of a window; `query` are filters and `last`. @throws {ProblemError} */
  async rows(query: URLSearchParams, window: Window, rowsMax: number): Promise<FlowPage> {
    const { names, clock } = this.#options, own = new URLSearchParams(query);
    const last = /^\d{1,6}$/.test(own.get("last") ?? "") ? Number(own.get("last")) : 200;
    for (const name of ["since", "until", "last", "first", "all", "after", "follow", "watch"]) {
      own.delete(name);
    }
    const filter = Object.fromEntries([...new Set(own.keys())].map((name) => [name, own.getAll(name)]));
    const { flows, completeness, more } = await this.#flows(
      window,
      Math.max(1, Math.min(last, rowsMax)),
      filter,
    );
    const nowS = clock.nowMs() / 1000;
    return { flows: flows.map((flow) => rowOf(flow, names, nowS)), completeness, more };
  }

  /** Flows and drops by time. @throws {ProblemError} */
  async strip({ sinceS, untilS }: Window, wantedStepS: number): Promise<TimeStrip> {
    const leastS = Math.ceil((untilS - sinceS) / BUCKETS_MAX / 60) * 60;
    const stepS = Math.max(60, leastS, Math.ceil(wantedStepS / 60) * 60);
    const { rollups } = await this.#need().call("/v1/rollups", {
      method: "GET",
      response: RollupAnswer,
      query: { since: textOf(sinceS), until: textOf(untilS), step: `${stepS}s`, limit: 10_000 },
      deadlineMs: ASK_MS_MAX,
    });
    return {
      stepS,
      buckets: rollups.map(({ startUnixS, flows, dropped, audited, troubles }) => ({
        atUnixS: startUnixS,
        flows,
        dropped,
        audited,
        trouble: troubles,
        lost: 0,
      })).sort((a, b) => a.atUnixS - b.atUnixS),
    };
  }

  /** Why, by what held at a time. @throws {ProblemError} HISTORY_TOO_YOUNG */
  async explain(request: Init<ExplainRequest>, atS: number): Promise<Explanation> {
    const [policies, identities, addresses] = await Promise.all([
      this.#held(atS, "policy", Policy),
      this.#held(atS, "identity", Identity),
      this.#held(atS, "address", IpcacheEntry),
    ]);
    const { response } = explainPast(ExplainRequest.create(request), {
      policies,
      identities,
      addresses,
      cluster: this.#options.cluster,
    });
    return explanationOf(response, atS);
  }

  async #held<T>(atS: number, kind: string, message: Message<T>): Promise<T[]> {
    const objects: T[] = [];
    for (let after = "";;) {
      const page = await this.#need().call("/v1/holdings", {
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

  async #make({ sinceS, untilS }: Window): Promise<PastWindow> {
    const { names } = this.#options;
    const stepS = Math.max(1, Math.ceil((untilS - sinceS) / 360));
    const picture = new FlowPicture({ names, stepS, bucketsMax: 400 });
    const { flows, completeness } = await this.#flows({ sinceS, untilS }, WINDOW_FLOWS_MAX, {});
    for (const flow of flows) picture.add(flow, untilS);
    const views = new Map<Group, MapView>();
    return {
      sinceS,
      untilS,
      picture,
      completeness,
      view(group) {
        let view = views.get(group);
        if (view === undefined) {
          views.set(group, view = new MapView(group, undefined, untilS - sinceS));
          view.begin(picture.table);
          while (view.update(untilS));
        }
        return view;
      },
    };
  }

  /** The newest flows of a window, the oldest first. */
  async #flows(
    { sinceS, untilS }: Window,
    flowsMax: number,
    filter: Record<string, string[]>,
  ): Promise<{ flows: Flow[]; completeness: Completeness; more: boolean }> {
    const { clock } = this.#options, client = this.#need(), startMs = clock.monotonicMs();
    const flows: Flow[] = [];
    let after = "", stored: StoredCompleteness | undefined;
    do {
      const page = await client.call("/v1/flows", {
        method: "GET",
        response: StoredPage,
        query: {
          ...filter,
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
    } while (after !== "" && flows.length < flowsMax && clock.monotonicMs() - startMs < ASK_MS_MAX);
    const more = after !== "", shown = flows.length.toLocaleString("en-US");
    return {
      flows: flows.reverse(),
      more,
      completeness: {
        seen: stored?.seen ?? flows.length,
        shown: flows.length,
        lost: stored?.lost ?? 0,
        sampled: stored === undefined || stored.seen === 0 ? 1 : Math.min(1, stored.stored / stored.seen),
        text: more ? `the newest ${shown} of ${stored?.text ?? "more"}` : stored?.text ?? `${shown} flows`,
      },
    };
  }

  #need(): WeirClient {
    if (this.#client !== undefined) return this.#client;
    throw new ProblemError("HISTORY_MISSING", {
      status: 503,
      detail: "Cannot show the past: there is no flow history on this machine",
      action: "It runs beside the control plane; open the page there",
    });
  }
}

function textOf(unixS: number): string {
  return new Date(unixS * 1000).toISOString();
}

/** The window that is asked for; undefined: now. `since` and `until` are Unix seconds or RFC 3339. @throws {ProblemError} QUERY_INVALID */
export function windowOf(query: URLSearchParams, nowS: number): Window | undefined {
  const since = query.get("since");
  if (since === null) return undefined;
  const sinceS = readTime("since", since), until = query.get("until");
  const untilS = until === null ? nowS : readTime("until", until);
  if (sinceS < untilS) return { sinceS, untilS };
  throw invalid("since", since, "a time before until");
}

/** @throws {ProblemError} QUERY_INVALID */
export function readTime(name: string, text: string): number {
  const seconds = /^\d{1,11}(\.\d+)?$/.test(text) ? Number(text) : Date.parse(text) / 1000;
  if (seconds >= 0 && seconds < 1e11) return seconds;
  throw invalid(name, text, "Unix seconds, or a time as RFC 3339 has it");
}

function invalid(name: string, value: string, expected: string): ProblemError {
  return new ProblemError("QUERY_INVALID", {
    detail: `Cannot take ${name}=${value.slice(0, 80)}: expected ${expected}`,
    found: value.slice(0, 80),
    expected,
  });
}
