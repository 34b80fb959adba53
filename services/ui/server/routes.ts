/** What the page asks for, by path. Each handler reads the query, calls, encodes. @module */
import { Hono } from "hono";
import type { WeirClient } from "@weir/client";
import type { StatusTargets } from "@weir/client/status";
import { type Clock, ProblemError, problemResponse, WEIR_VERSION } from "@weir/common";
import { FLOW_PARAMETERS } from "@weir/flow-filter";
import { DROP_REASONS, EVENT_TYPES, TROUBLES } from "@weir/proto/numbers";
import type {
  CardDetail,
  DropExplanation,
  DropReport,
  Group,
  HealthReport,
  MapSnapshot,
  Names,
  Session,
} from "../api.ts";
import { commandsOf, noPolicyReason, quoted, requestOf, requestOfQuery } from "./explain_flow.ts";
import { cardOf } from "./flow_end.ts";
import type { FlowPicture } from "./flow_picture.ts";
import { askRows, type RowParts, ROWS_MAX, rowStream } from "./flow_rows.ts";
import type { FlowSource } from "./flow_source.ts";
import { healthReport } from "./health_report.ts";
import { type LivePictures, shownNow } from "./live_pictures.ts";
import { MAP_LIMITS } from "./map_view.ts";
import type { NodeNames } from "./node_names.ts";
import { filterOf, type Past, readTime, windowOf } from "./past.ts";
import type { ShownWindow } from "./shown_window.ts";
import { explain, policyDetail, policyReport } from "./policies.ts";
import { readPreview } from "./policy_preview.ts";
import { Shared } from "./shared_answer.ts";

/** What the handlers answer from. */
export interface RouteParts {
  readonly lives: LivePictures;
  readonly source: FlowSource;
  readonly names: NodeNames;
  readonly engine: WeirClient;
  readonly past: Past;
  readonly status: StatusTargets;
  readonly lab: string;
  readonly cluster: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** Words of each kind that are given for completion. */
const NAMES_MAX = 2000;
const NDJSON = { "content-type": "application/x-ndjson; charset=utf-8", "cache-control": "no-store" };
/** What many browsers ask for at once is asked once in this time. */
const HEALTH_MS = 2000, POLICIES_MS = 1000;

/** The API below a base path. */
export function apiRoutes(parts: RouteParts): Hono {
  const { lives, source, names, engine, past, clock, signal } = parts;
  const app = new Hono(), nowS = () => clock.nowMs() / 1000;
  const rows: RowParts = { source, names, sources: () => lives.sources(), clock, signal };
  const hits = async () => {
    const { picture, maps } = await lives.whole();
    return { hits: picture.hits, text: "", sinceUnixS: maps.sinceS };
  };
  const health = new Shared<HealthReport>({
    ms: HEALTH_MS,
    clock,
    ask: async () => {
      const { picture } = await lives.whole();
      return await healthReport(parts.status, { nowS, sources: lives.sources(), folded: foldedOf(picture) });
    },
  });
  const policies = new Shared({
    ms: POLICIES_MS,
    clock,
    ask: async () => policyReport(engine, await hits()),
  });
  app.onError((error) => problemResponse(error));
  app.notFound(() =>
    problemResponse(new ProblemError("NOT_FOUND", { status: 404, detail: "There is nothing here" }))
  );
  /** The window that is asked for, or now, through the filter. */
  const shownOf = async (query: URLSearchParams): Promise<ShownWindow> => {
    const window = windowOf(query, nowS()), filter = filterOf(query);
    return window === undefined
      ? shownNow(await lives.of(filter), nowS())
      : await past.window(window, filter);
  };
  const get = (path: string, answer: (query: URLSearchParams) => unknown) =>
    app.get(path, async (c) => c.json(await answer(new URL(c.req.url).searchParams) as object));
  const hitsOf = async (query: URLSearchParams) => {
    const window = windowOf(query, nowS());
    if (window === undefined) return await hits();
    return { ...await (await past.window(window)).hits(), sinceUnixS: window.sinceS };
  };
  get("/session", () => sessionOf(parts));
  app.get("/live", async (c) => {
    const { searchParams } = new URL(c.req.url), group = groupOf(searchParams.get("group") ?? undefined);
    const live = await lives.of(filterOf(searchParams));
    return new Response(live.maps.stream(group), { headers: NDJSON });
  });
  get(
    "/map",
    async (query) => await snapshotOf(await shownOf(query), groupOf(query.get("group") ?? undefined)),
  );
  get("/card", async (query) => await cardDetail(await shownOf(query), query, parts.lab));
  get("/flows", (query) => {
    const window = windowOf(query, nowS());
    return window === undefined ? askRows(query, rows) : past.rows(query, window, ROWS_MAX);
  });
  app.get(
    "/flows/stream",
    (c) => new Response(lives.during(rowStream(new URL(c.req.url).searchParams, rows)), { headers: NDJSON }),
  );
  get("/drops", async (query) => dropReport(await shownOf(query)));
  get(
    "/drops/explain",
    async (query) => await explainCause(parts, query.get("cause") ?? "", await shownOf(query)),
  );
  get("/explain", async (query) => {
    const { picture } = await lives.whole();
    const request = requestOfQuery(query, (text) => identityOfName(picture, text)), at = query.get("at");
    return at === null ? await explain(engine, request) : await past.explain(request, readTime("at", at));
  });
  get("/policies", async (query) => {
    return windowOf(query, nowS()) === undefined
      ? await policies.get()
      : await policyReport(engine, await hitsOf(query));
  });
  get("/policy", async (query) => policyDetail(engine, query.get("name") ?? "", await hitsOf(query)));
  app.post(
    "/preview",
    async (c) => c.json(await past.preview(await readPreview(c.req.raw), c.req.raw.signal)),
  );
  get("/health", () => health.get());
  get("/strip", async (query) => {
    const window = windowOf(query, nowS()), step = Number(query.get("step") ?? 60);
    return window === undefined
      ? (await lives.whole()).picture.strip.since(0)
      : await past.strip(window, step > 0 ? step : 60, filterOf(query));
  });
  get("/names", async () => namesOf((await lives.whole()).picture, names));
  return app;
}

const GROUPS: readonly string[] = ["workload", "namespace", "node"];

/** @throws {ProblemError} QUERY_INVALID */
function groupOf(text = "workload"): Group {
  if (GROUPS.includes(text) || /^label:[A-Za-z0-9][-A-Za-z0-9_./:]{0,200}$/.test(text)) return text as Group;
  throw new ProblemError("QUERY_INVALID", {
    detail: `Cannot take group=${text.slice(0, 80)}`,
    expected: `${GROUPS.join(", ")} or label:KEY`,
  });
}

async function sessionOf({ lab, cluster, names, clock, lives, past }: RouteParts): Promise<Session> {
  const [{ history, reason, sinceUnixS }, { maps }] = await Promise.all([past.state(), lives.whole()]);
  return {
    version: WEIR_VERSION,
    cluster,
    lab,
    nodes: names.list(),
    sinceUnixS: maps.sinceS,
    nowUnixS: clock.nowMs() / 1000,
    history,
    historyReason: reason,
    historySinceUnixS: sinceUnixS,
    limits: MAP_LIMITS,
  };
}

async function snapshotOf(shown: ShownWindow, group: Group): Promise<MapSnapshot> {
  const view = await shown.view(group), { cards, edges } = view.snapshot();
  return {
    group,
    sinceUnixS: shown.sinceS,
    untilUnixS: shown.untilS,
    cards: cards.map((text) => JSON.parse(text)),
    edges: edges.map((text) => JSON.parse(text)),
    foldedCards: view.foldedCards.size,
    foldedEdges: view.foldedEdges.size + shown.foldedPairs,
    completeness: shown.completeness,
  };
}

/** @throws {ProblemError} NOT_FOUND */
async function cardDetail(shown: ShownWindow, query: URLSearchParams, lab: string): Promise<CardDetail> {
  const id = query.get("id") ?? "", group = groupOf(query.get("group") ?? undefined);
  const found = (await shown.view(group)).card(id);
  if (found === undefined) {
    throw new ProblemError("NOT_FOUND", {
      status: 404,
      detail: `Cannot find card ${JSON.stringify(id.slice(0, 200))}`,
    });
  }
  const { card, edges } = found;
  const filter = Object.entries(card.query).map(([name, value]) => `--${name} ${quoted(value)}`).join(" ");
  const own = lab === "" ? "" : ` --lab ${lab}`;
  return {
    card,
    edges,
    policies: (await shown.hits()).hits.ofCard(id),
    causes: shown.causes.filter(({ from, to }) => from === id || to === id)
      .sort((a, b) => b.lastSeenUnixS - a.lastSeenUnixS),
    commands: filter === "" ? [] : [
      { title: "Follow its flows", text: `weir observe${own} ${filter} -f` },
      { title: "With the hubble command", text: `hubble observe ${filter} -f` },
      { title: "Its drops", text: `weir observe${own} ${filter} --verdict DROPPED` },
    ],
  };
}

function dropReport({ sinceS, untilS, causes, foldedDrops, completeness }: ShownWindow): DropReport {
  return {
    sinceUnixS: causes.reduce((s, { firstSeenUnixS }) => Math.min(s, firstSeenUnixS), sinceS),
    untilUnixS: untilS,
    causes,
    foldedDrops,
    completeness,
  };
}

/** @throws {ProblemError} NOT_FOUND */
async function explainCause(
  { engine, past, lab }: RouteParts,
  id: string,
  { causes, isPast }: ShownWindow,
): Promise<DropExplanation> {
  const cause = causes.find((one) => one.id === id);
  if (cause === undefined) {
    throw new ProblemError("NOT_FOUND", {
      status: 404,
      detail: "Cannot find this cause: it was not heard of for an hour, or another server gave it",
    });
  }
  const commands = commandsOf(cause, lab), reason = noPolicyReason(cause);
  if (reason !== "") return { cause: id, explanation: null, reason, commands };
  const request = requestOf(cause.example);
  const explanation = !isPast
    ? await explain(engine, request)
    : await past.explain(request, cause.example.timeUnixS);
  return { cause: id, explanation, reason: "", commands };
}

/** Identity of a pod ("shop/cart") or of a workload's card; undefined where the live map knows none. */
function identityOfName({ table }: FlowPicture, text: string): number | undefined {
  for (const { end, pods } of table.ends()) {
    const isPod = end.kind === "workload" && text.startsWith(`${end.namespace}/`) &&
      pods.has(text.slice(end.namespace.length + 1));
    if (isPod || cardOf(end, "workload").id === text) return end.identity;
  }
  return undefined;
}

function foldedOf({ table, causes, hits }: FlowPicture): HealthReport["folded"] {
  return [
    { limit: "pairs of ends on the map", count: table.folded },
    { limit: "causes of drops", count: causes.folded },
    { limit: "rules with hits", count: hits.folded },
  ].filter(({ count }) => count > 0);
}

function namesOf({ table }: FlowPicture, nodes: NodeNames): Names {
  const namespaces = new Set<string>(), pods = new Set<string>(), workloads = new Set<string>();
  const labels = new Set<string>();
  for (const { end, pods: names } of table.ends()) {
    if (end.kind !== "workload") continue;
    namespaces.add(end.namespace);
    workloads.add(end.workload);
    for (const pod of names) pods.add(`${end.namespace}/${pod}`);
    for (const label of end.labels) labels.add(label);
  }
  const list = (set: Set<string>) => [...set].filter((name) => name !== "").sort().slice(0, NAMES_MAX);
  return {
    namespaces: list(namespaces),
    pods: list(pods),
    workloads: list(workloads),
    labels: list(labels),
    nodes: nodes.list().slice(0, NAMES_MAX),
    verdicts: ["FORWARDED", "DROPPED", "AUDIT", "REDIRECTED", "ERROR", "TRACED", "TRANSLATED"],
    dropReasons: DROP_REASONS.map(({ name }) => name),
    types: [...EVENT_TYPES.map(({ text }) => text), ...TROUBLES.map(({ text }) => text)],
    protocols: ["TCP", "UDP", "ICMPv4", "ICMPv6", "SCTP", "HTTP", "DNS"],
    parameters: [...FLOW_PARAMETERS, ...FLOW_PARAMETERS.map((name) => `not-${name}`)],
  };
}
