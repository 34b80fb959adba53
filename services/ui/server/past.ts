/**
 * Windows of the past, asked of the flow history: the same picture as of now, made of its sums, and explained by the policies,
 * identities and addresses that held then.
 * @module
 */
import { WeirClient } from "@weir/client";
import { type Clock, errorText, ProblemError } from "@weir/common";
import { FLOW_PARAMETERS } from "@weir/flow-filter";
import type { Init } from "@weir/proto";
import { Identity, IpcacheEntry } from "@weir/proto/identity";
import { ExplainRequest, Policy } from "@weir/proto/policy";
import { explainPast } from "@weir/policy-engine/past";
import type { Explanation, FlowPage, PolicyPreview, TimeStrip } from "../api.ts";
import type { EndNames } from "./flow_end.ts";
import { rowOf } from "./flow_row.ts";
import { type FilterParameters, HistoryReader, type Window } from "./history_reader.ts";
import { windowOfFlows } from "./past_flows.ts";
import { windowOfSums } from "./past_sums.ts";
import { previewOf } from "./policy_preview.ts";
import type { ShownWindow } from "./shown_window.ts";
import { explanationOf } from "./policies.ts";

const WINDOWS_MAX = 8, BUCKETS_MAX = 1000;
/** A window that reaches so near to now still fills. */
const FRESH_S = 60, FRESH_MS = 5000;
const STATUS_MS = 3000;
/** What sums say where they do not hold what is asked, or would take too long. */
const NOT_OF_SUMS = new Set(["FILTER_NOT_SUPPORTED", "QUERY_INVALID", "QUERY_TOO_WIDE"]);
const NO_FILTER: FilterParameters = {};

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
  readonly #reader: HistoryReader | undefined;
  readonly #windows = new Map<string, { made: Promise<ShownWindow>; atMs: number }>();
  #state: { value: PastState; atMs: number } | undefined;

  constructor(options: PastOptions) {
    this.#options = options;
    this.#client = options.address === undefined ? undefined : new WeirClient(options.address);
    this.#reader = this.#client && new HistoryReader(this.#client, options.clock);
  }

  close(): void {
    this.#client?.close();
  }

  /** Forgets the windows; who asks for one again has it made anew. */
  rest(): void {
    this.#windows.clear();
  }

  /** Whether windows can be asked for. Never rejects. */
  async state(): Promise<PastState> {
    const { clock } = this.#options;
    if (this.#reader === undefined) {
      return { history: false, reason: "there is no flow history on this machine", sinceUnixS: 0 };
    }
    if (this.#state !== undefined && clock.monotonicMs() - this.#state.atMs < STATUS_MS) {
      return this.#state.value;
    }
    let value: PastState;
    try {
      const { oldestUnixS, state, error } = await this.#reader.status();
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
  async window(window: Window, filter = NO_FILTER): Promise<ShownWindow> {
    const { clock } = this.#options, nowMs = clock.monotonicMs();
    const key = `${window.sinceS} ${window.untilS} ${JSON.stringify(filter)}`;
    const known = this.#windows.get(key);
    const isFresh = window.untilS > clock.nowMs() / 1000 - FRESH_S;
    if (known !== undefined && (!isFresh || nowMs - known.atMs < FRESH_MS)) return await known.made;
    this.#windows.delete(key);
    if (this.#windows.size >= WINDOWS_MAX) this.#windows.delete(this.#windows.keys().next().value!);
    const made = this.#make(window, filter);
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
    const { names, clock } = this.#options;
    const last = /^\d{1,6}$/.test(query.get("last") ?? "") ? Number(query.get("last")) : 200;
    const { flows, completeness, more } = await this.#need().flows(
      window,
      Math.max(1, Math.min(last, rowsMax)),
      filterOf(query),
    );
    const nowS = clock.nowMs() / 1000;
    return { flows: flows.map((flow) => rowOf(flow, names, nowS)), completeness, more };
  }

  /** What a policy would do to the connections of the last hours. @throws {ProblemError} */
  async preview(
    { file, text, sinceH }: { file: string; text: string; sinceH: number },
    signal: AbortSignal,
  ): Promise<PolicyPreview> {
    return previewOf(await this.#need().preview({ texts: [{ file, text }], since: `${sinceH}h` }, signal));
  }

  /** Flows and drops by time, whole steps of minutes. @throws {ProblemError} */
  async strip(
    { sinceS, untilS }: Window,
    wantedStepS: number,
    filter = NO_FILTER,
  ): Promise<TimeStrip> {
    const leastS = Math.ceil((untilS - sinceS) / BUCKETS_MAX / 60) * 60;
    const stepS = Math.max(60, leastS, Math.ceil(wantedStepS / 60) * 60);
    const reader = this.#need();
    let ofAll = false;
    const { rollups } = await reader.sums({ sinceS, untilS }, [], { filter, stepS }).catch((error) => {
      if (!(error instanceof ProblemError) || error.code !== "FILTER_NOT_SUPPORTED") throw error;
      ofAll = true;
      return reader.sums({ sinceS, untilS }, [], { stepS });
    });
    return {
      stepS,
      ofAll,
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
    const reader = this.#need();
    const [policies, identities, addresses] = await Promise.all([
      reader.held(atS, "policy", Policy),
      reader.held(atS, "identity", Identity),
      reader.held(atS, "address", IpcacheEntry),
    ]);
    const { response } = explainPast(ExplainRequest.create(request), {
      policies,
      identities,
      addresses,
      cluster: this.#options.cluster,
    });
    return explanationOf(response, atS);
  }

  /** Of sums, which are whole; where they cannot answer, of the newest flows. */
  async #make(window: Window, filter: FilterParameters): Promise<ShownWindow> {
    const parts = { reader: this.#need(), names: this.#options.names, filter };
    try {
      return await windowOfSums(window, parts);
    } catch (error) {
      if (!(error instanceof ProblemError) || !NOT_OF_SUMS.has(error.code)) throw error;
      // A filter that is wrong is refused here too.
      return await windowOfFlows(window, { ...parts, why: error.message });
    }
  }

  #need(): HistoryReader {
    if (this.#reader !== undefined) return this.#reader;
    throw new ProblemError("HISTORY_MISSING", {
      status: 503,
      detail: "Cannot show the past: there is no flow history on this machine",
      action: "It runs beside the control plane; open the page there",
    });
  }
}

const FILTERS = new Set(FLOW_PARAMETERS.flatMap((name) => [name, `not-${name}`]));
/** Parameters that are no filters. */
const OWN = new Set(["group", "id", "cause", "since", "until", "last", "step"]);

/**
 * The parameters that filter, in one order: the same filter is the same text. Pure.
 * @throws {ProblemError} QUERY_INVALID: a name that there is not would filter nothing, silently
 */
export function filterOf(query: URLSearchParams): FilterParameters {
  const names = [...new Set(query.keys())].filter((name) => !OWN.has(name)).sort();
  for (const name of names) {
    if (!FILTERS.has(name)) {
      throw invalid(name, query.get(name) ?? "", "the name of a filter, as weir observe has them");
    }
  }
  return Object.fromEntries(names.map((name) => [name, query.getAll(name).sort()]));
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
