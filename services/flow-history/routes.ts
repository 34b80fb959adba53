/**
 * The HTTP face of the history. It answers questions only: the past does not change.
 * @module
 */
import { type ApiServer, type Clock, ProblemError } from "@weir/common";
import { readFlowsQuery, readTime } from "@weir/flow-filter";
import type { Init, Message } from "@weir/proto";
import {
  CompletenessAnswer,
  Connection,
  ConnectionPage,
  FlowPage,
  HistoryStatus,
  HoldingPage,
  PreviewAnswer,
  PreviewRequest,
  RollupAnswer,
} from "@weir/proto/history";
import { type GetFlowsRequest, GetFlowsResponse } from "@weir/proto/observer";
import { completenessByMinute, completenessOf, type Window } from "./completeness.ts";
import { checkFields, CONNECTION_FIELDS, planFilters, ROLLUP_FIELDS } from "./filter_plan.ts";
import { HELD_KINDS } from "./held_objects.ts";
import type { FlowHistory } from "./history.ts";
import { holdingsAt } from "./holdings.ts";
import { AHEAD_MS_MAX, flowOfConnection } from "./intake.ts";
import { preview, PREVIEW_BYTES_MAX, type PreviewSources } from "./preview.ts";
import { GROUPS_MAX } from "./rollup_groups.ts";
import { STEPS_MAX, sumRollups } from "./rollup_query.ts";
import { wordOf } from "./word.ts";
import { stretchesUntil } from "./connection_length.ts";
import { knownNames } from "./known_names.ts";
import { formatPlace, type Found, parsePlace, search } from "./search.ts";

/** Items of a page: without a word, and at most. */
export const PAGE_DEFAULT = 100, PAGE_MAX = 1000;
/** Groups of sums of an answer. */
export const ROLLUPS_DEFAULT = 1000, ROLLUPS_MAX = GROUPS_MAX;
/** What a page is searched for, in milliseconds; what is not found by then is for the next. */
export const PAGE_MS = 120;
/** A question about sums ends after this. */
export const ROLLUP_MS_MAX = 8000;
/** Questions that are answered at once; more are refused. */
export const QUERIES_MAX = 16;
/** Previews that are made at once: each may take as much memory as all that is read for it. */
export const PREVIEWS_MAX = 1;

const HOUR_MS = 3_600_000;

/** What the routes need beside the history. */
export interface RouteParts extends PreviewSources {
  readonly clock: Clock;
  /** "" or why the relay is away. */
  readonly relayAway: () => string;
}

/** Adds the routes. */
export function mountHistory(api: ApiServer, history: FlowHistory, parts: RouteParts): void {
  const { clock } = parts, { database } = history.store;
  let running = 0;
  const counted = async <A>(answer: () => Promise<A> | A): Promise<A> => {
    if (!history.isLoaded) throw notLoaded(history);
    if (running >= QUERIES_MAX) throw tooMany(QUERIES_MAX);
    running++;
    try {
      return await answer();
    } finally {
      running--;
    }
  };
  const get = <A>(
    path: string,
    response: Message<A>,
    description: string,
    answer: (query: URLSearchParams) => Promise<Init<A>> | Init<A>,
  ) => {
    api.action({
      method: "GET",
      path,
      response,
      description,
      handle: async (_, { query }) => response.create(await counted(() => answer(query))),
    });
  };
  const newestMs = () => Math.max(clock.nowMs() + AHEAD_MS_MAX, history.newestMs);
  const completeness = async (window: Window) => {
    const reached = reachable(window, history.oldestMs.flows, newestMs());
    return await history.readWhole(() => completenessOf(database, reached, history.countTail()));
  };

  get(
    "/v1/flows",
    FlowPage,
    "Flows, filtered as GET /v1/flows of the flow exporter; first= or last=, after=",
    async (query) => {
      const { own, rest } = split(query, ["after"]);
      const window = readWindow(rest, clock, 0), request = readFlowsQuery(rest, clock.nowMs());
      const memory = history.memory("f"), names = knownNames(database, "f", memory);
      const plan = await planFilters(request, "f", history.intake.ends, names);
      const newestFirst = !request.first;
      const found = await search(database, clock, {
        kind: "f",
        ...window,
        ...{ alternatives: plan.alternatives, newestFirst, budgetMs: PAGE_MS },
        count: pageSize(request.first || rest.has("last") ? Number(request.number) : PAGE_DEFAULT),
        after: own.after === undefined ? undefined : parsePlace(own.after),
        ...{ memory, old: history.store.oldBlocks },
        read: ({ bytes }) => {
          const { flow } = GetFlowsResponse.decode(bytes);
          return flow !== undefined && plan.matches(flow) ? flow : undefined;
        },
      });
      return { flows: found.values, ...pageParts(found), completeness: await completeness(window) };
    },
  );

  const connections = async (query: URLSearchParams): Promise<Init<ConnectionPage>> => {
    const { own, rest } = split(query, ["after", "limit"]);
    const window = readWindow(rest, clock, 0), request = filtersOnly(rest, clock);
    checkFields(request, CONNECTION_FIELDS, "connections");
    const memory = history.memory("c"), names = knownNames(database, "c", memory);
    const plan = await planFilters(request, "c", history.intake.ends, names);
    const found = await search(database, clock, {
      kind: "c",
      ...{ alternatives: plan.alternatives, newestFirst: true, budgetMs: PAGE_MS },
      sinceMs: window.sinceMs,
      // They stand by their ends: who began within the window may have ended after it.
      untilMs: Number.MAX_SAFE_INTEGER / 2,
      count: pageSize(readCount("limit", own.limit, PAGE_DEFAULT)),
      after: own.after === undefined ? undefined : parsePlace(own.after),
      ...{ memory, old: history.store.oldBlocks },
      stretches: rest.has("until") ? stretchesUntil(window.untilMs) : undefined,
      read: ({ bytes, startMs = 0, open }) => {
        if (startMs > window.untilMs) return undefined;
        const connection = open?.value ?? Connection.decode(bytes);
        const isIn = connection.startUnixS * 1000 <= window.untilMs;
        if (!isIn || !plan.matches(flowOfConnection(connection))) return undefined;
        return open?.snapshot() ?? connection;
      },
    });
    return { connections: found.values, ...pageParts(found), completeness: await completeness(window) };
  };
  get("/v1/connections", ConnectionPage, "Connections, latest end first; limit=, after=", connections);
  let previews = 0;
  api.action({
    path: "/v1/preview",
    isQuestion: true,
    request: PreviewRequest,
    response: PreviewAnswer,
    bodyBytesMax: PREVIEW_BYTES_MAX,
    handle: (request) =>
      counted(async () => {
        if (previews >= PREVIEWS_MAX) throw tooMany(PREVIEWS_MAX);
        previews++;
        try {
          return PreviewAnswer.create(await preview(request, { ...parts, connections }));
        } finally {
          previews--;
        }
      }),
    description: "Which recorded connections would be treated in another way with these policies",
  });

  get("/v1/rollups", RollupAnswer, "Sums by minute; by=, step=, limit=", async (query) => {
    const { own, rest } = split(query, ["step", "limit"]), by = rest.getAll("by");
    rest.delete("by");
    const window = readWindow(rest, clock, HOUR_MS), request = filtersOnly(rest, clock);
    checkRollupFilters(request);
    const plan = await planFilters(request, "f", history.intake.ends, () => Promise.resolve(undefined));
    const limit = readCount("limit", own.limit, ROLLUPS_DEFAULT);
    const reached = reachable(window, history.oldestMs.rollups, newestMs()),
      stepS = readStep(own.step, reached);
    const { rollups, folded, numbers } = await history.readWhole(
      () =>
        sumRollups(database, history.intake.ends, clock, {
          ...reached,
          by,
          stepS,
          matches: plan.matches,
          isUnfiltered: (request.whitelist?.length ?? 0) + (request.blacklist?.length ?? 0) === 0,
          tail: history.rollupTail(),
          compactedS: (level) => history.store.compactedS(level),
          deadlineMs: ROLLUP_MS_MAX,
        }),
      "rollups",
    );
    const given = rollups.slice(0, Math.min(limit, ROLLUPS_MAX));
    return {
      rollups: given,
      ends: numbers.list(given),
      groups: rollups.length,
      completeness: await completeness(window),
      stepS,
      folded,
    };
  });

  get("/v1/completeness", CompletenessAnswer, "How much of what happened is known", async (query) => {
    const window = readWindow(query, clock, HOUR_MS);
    checkEmpty(query, ["since", "until"]);
    const reached = reachable(window, history.oldestMs.flows, newestMs());
    return await history.readWhole(() => completenessByMinute(database, reached, history.countTail()));
  });

  get(
    "/v1/holdings",
    HoldingPage,
    "Policies, identities and addresses as they held at=TIME; kind=, name=, after=, limit=",
    async (query) => {
      const { own, rest } = split(query, ["at", "kind", "name", "after", "limit"]);
      checkEmpty(rest, []);
      if (own.kind !== undefined && !(HELD_KINDS as readonly string[]).includes(own.kind)) {
        throw invalid("kind", own.kind, HELD_KINDS.join(", "));
      }
      return await holdingsAt(database, {
        atMs: own.at === undefined ? clock.nowMs() : readMs("at", own.at, clock),
        kind: own.kind,
        name: own.name === undefined ? undefined : wordOf(own.name),
        after: own.after,
        limit: pageSize(readCount("limit", own.limit, PAGE_MAX)),
      });
    },
  );

  const status = () => {
    const { retention, intake } = history, { limits, flowsPerSMax } = history;
    return HistoryStatus.create({
      database: database.url,
      state: stateOf(history),
      error: history.error,
      errorSinceUnixS: history.error === "" ? 0 : history.errorSinceMs / 1000,
      oldestUnixS: retention.oldestMs / 1000,
      newestUnixS: retention.newestMs / 1000,
      flows: retention.flows,
      bytes: retention.bytes,
      bytesMax: limits.bytesMax,
      ageMaxS: limits.ageMsMax / 1000,
      sampledShare: intake.sampler.share,
      flowsPerSMax,
      openConnections: intake.connections.size,
      waitingFlows: history.waitingFlows,
      relay: parts.relayAway() || "connected",
      skewedFlows: intake.skewed,
      skewedNodes: [...intake.skewedNodes.keys()],
    });
  };
  api.action({
    method: "GET",
    path: "/v1/status",
    response: HistoryStatus,
    description: "How the history is",
    handle: status,
  });
}

function pageParts<T>({ next, reachedMs, searched, unreadable }: Found<T>) {
  return {
    next: next === undefined ? "" : formatPlace(next),
    searchedUntilUnixS: reachedMs / 1000,
    searched,
    unreadable,
  };
}

/** Takes out what is the route's own, of which there is one each. */
function split<const N extends string>(
  query: URLSearchParams,
  names: readonly N[],
): { own: Partial<Record<N, string>>; rest: URLSearchParams } {
  const rest = new URLSearchParams(query), own: Partial<Record<N, string>> = {};
  for (const name of names) {
    const value = rest.get(name);
    if (value !== null && value !== "") own[name] = value;
    rest.delete(name);
  }
  return { own, rest };
}

/** `since` and `until`; `backMs` before now where there is no `since`, 0: from the beginning. @throws {ProblemError} */
function readWindow(query: URLSearchParams, clock: Clock, backMs: number): Window {
  const since = query.get("since"), until = query.get("until"), nowMs = clock.nowMs();
  const untilMs = until === null ? Number.MAX_SAFE_INTEGER / 2 : readMs("until", until, clock);
  const sinceMs = since !== null
    ? readMs("since", since, clock)
    : backMs === 0
    ? 0
    : Math.min(nowMs, untilMs) - backMs;
  if (sinceMs > untilMs) throw invalid("since", since ?? "", `a time before until=${until}`);
  return { sinceMs: Math.max(0, sinceMs), untilMs: Math.max(0, untilMs) };
}

function readMs(name: string, text: string, clock: Clock): number {
  const { seconds, nanos } = readTime(name, text, clock.nowMs());
  return seconds * 1000 + nanos / 1e6;
}

/** A window as far as there is anything: not before the oldest, not in the future but for what a clock that was put back left there. */
function reachable({ sinceMs, untilMs }: Window, oldestMs: number, newestMs: number): Window {
  const last = Math.min(untilMs, newestMs);
  return { sinceMs: Math.min(last, Math.max(sinceMs, oldestMs)), untilMs: last };
}

/** The filters of a route that pages by itself. @throws {ProblemError} QUERY_INVALID */
function filtersOnly(query: URLSearchParams, clock: Clock): Init<GetFlowsRequest> {
  for (const name of ["first", "last", "all", "follow", "watch"]) {
    if (query.has(name)) throw invalid(name, query.get(name) ?? "", "limit= and after= here");
  }
  return readFlowsQuery(query, clock.nowMs());
}

/** Sums know the server's port alone: `port=` asks both ends, and the server's answers. */
function checkRollupFilters(request: Init<GetFlowsRequest>): void {
  checkFields(request, ROLLUP_FIELDS, "rollups");
  for (const list of [request.whitelist ?? [], request.blacklist ?? []]) {
    const isAsked = list.some((one) => one.destination_port?.length),
      from = list.find((one) => one.source_port?.length);
    if (from !== undefined && !isAsked) {
      throw invalid(
        "from-port",
        `${from.source_port}`,
        "to-port or port: rollups hold the server's port alone",
      );
    }
  }
}

function readStep(text: string | undefined, { sinceMs, untilMs }: Window): number {
  if (text === undefined) return 0;
  const [, number, unit] = /^(\d{1,6})(s|m|h|d)?$/.exec(text) ?? [];
  const stepS = Number(number) * { s: 1, m: 60, h: 3600, d: 86_400 }[(unit ?? "s") as "s"];
  if (number === undefined || stepS < 60 || stepS % 60 !== 0) {
    throw invalid("step", text, "whole minutes, such as 1m, 10m or 1h");
  }
  if ((untilMs - sinceMs) / 1000 / stepS > STEPS_MAX) {
    throw invalid("step", text, `at most ${STEPS_MAX} steps in the window`);
  }
  return stepS;
}

function readCount(name: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  if (!/^\d{1,9}$/.test(text) || Number(text) < 1) throw invalid(name, text, "a number above 0");
  return Number(text);
}

/** What is asked for beyond a page comes with the next. */
const pageSize = (wanted: number) => Math.max(1, Math.min(wanted, PAGE_MAX));

function checkEmpty(query: URLSearchParams, known: readonly string[]): void {
  for (const name of query.keys()) {
    if (!known.includes(name)) {
      throw invalid(name, query.get(name) ?? "", known.join(", ") || "no such parameter");
    }
  }
}

function invalid(name: string, value: string, expected: string): ProblemError {
  return new ProblemError("QUERY_INVALID", {
    status: 400,
    detail: `Cannot take ${name.slice(0, 80)}=${value.slice(0, 80)}: expected ${expected}`,
    found: value.slice(0, 80),
    expected,
  });
}

function stateOf({ error, isLoaded, writer }: FlowHistory): string {
  if (error !== "") return "failing";
  return isLoaded ? "writing" : writer === "" ? "loading" : "standby";
}

function notLoaded({ writer, error }: FlowHistory): ProblemError {
  return new ProblemError("HISTORY_NOT_LOADED", {
    status: 503,
    detail: writer === ""
      ? `Cannot answer yet: the database is being read${error === "" ? "" : `: ${error}`}`
      : `Cannot answer: ${writer} writes the history, and this process waits for its turn`,
    action: writer === "" ? "Ask again in a moment" : "Ask there",
  });
}

function tooMany(max: number): ProblemError {
  return new ProblemError("TOO_MANY_QUERIES", {
    status: 429,
    detail: `Cannot answer: ${max} ${max === 1 ? "such question is" : "questions are"} being answered`,
    expected: `at most ${max} at once`,
    action: "Ask again in a moment",
  });
}
