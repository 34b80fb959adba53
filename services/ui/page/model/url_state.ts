/**
 * Where a reader is, as an address that can be sent to a colleague: the page in the path, all else in the query.
 *
 *     flows?q=from-pod%3Dshop%2Fcart&since=2026-11-28T14:00:00Z&until=2026-11-28T14:05:00Z
 *
 * What cannot be read is left out, never an error: an address is typed by people.
 * @module
 */
import type { Group } from "../../api.ts";

export const PAGES = ["map", "flows", "drops", "policies", "health"] as const;
export type Page = typeof PAGES[number];

/** A window of the past, Unix seconds, `sinceUnixS` below `untilUnixS`. */
export interface TimeWindow {
  readonly sinceUnixS: number;
  readonly untilUnixS: number;
}

/** The whole state. Empty means the default, which is then not in the address. */
export interface UrlState {
  readonly page: Page;
  /** null: now. */
  readonly window: TimeWindow | null;
  readonly group: Group;
  /** The filter as it was typed. */
  readonly filter: string;
  /** Id of the card, row or cause whose panel is open. */
  readonly selected: string;
  readonly policy: string;
  /** Islands that a reader closed (`-`) or opened (`+`) against the default: "-ns:shop". */
  readonly islands: readonly string[];
  /** Columns of the table; empty: the default ones. */
  readonly columns: readonly string[];
}

export const URL_STATE_DEFAULT: UrlState = {
  page: "map",
  window: null,
  group: "workload",
  filter: "",
  selected: "",
  policy: "",
  islands: [],
  columns: [],
};

/** Longest text that is taken from an address for one word of the state. */
const TEXT_MAX = 2000;
const ITEMS_MAX = 500;

/**
 * @param path Path below the base path, without a leading slash: "flows".
 * @param query With or without "?".
 */
export function readUrlState(path: string, query: string): UrlState {
  const values = new URLSearchParams(query);
  const text = (name: string) => (values.get(name) ?? "").slice(0, TEXT_MAX);
  const name = path.split("/")[0];
  return {
    page: PAGES.find((page) => page === name) ?? "map",
    window: readWindow(text("since"), text("until")),
    group: readGroup(text("group")),
    filter: text("q"),
    selected: text("select"),
    policy: text("policy"),
    islands: values.getAll("island").slice(0, ITEMS_MAX).filter((island) => /^[-+]./.test(island)),
    columns: text("columns").split(",").filter((column) => /^[a-z_]+$/.test(column)),
  };
}

/** The address of a state, relative to the base path. The same state gives the same address. */
export function formatUrlState(state: UrlState): string {
  const query = new URLSearchParams();
  const put = (name: string, value: string) => value !== "" && query.set(name, value);
  if (state.window) {
    query.set("since", formatTime(state.window.sinceUnixS));
    query.set("until", formatTime(state.window.untilUnixS));
  }
  if (state.group !== "workload") query.set("group", state.group);
  put("q", state.filter);
  put("policy", state.policy);
  put("select", state.selected);
  for (const island of [...state.islands].sort()) query.append("island", island);
  put("columns", state.columns.join(","));
  // What a query may hold as it is stays readable: "q=from-pod=shop/cart".
  const readable = query.toString().replace(/%2F/g, "/").replace(/%3A/g, ":").replace(/%3D/g, "=").replace(
    /%2C/g,
    ",",
  );
  return readable === "" ? state.page : `${state.page}?${readable}`;
}

/** What another page keeps of this one: the time, the filter, the grouping; not what was open here. */
export function otherPage(state: UrlState, page: Page): UrlState {
  return { ...state, page, selected: "", policy: "" };
}

function readGroup(text: string): Group {
  if (text === "namespace" || text === "node") return text;
  return /^label:.{1,300}$/.test(text) ? text as Group : "workload";
}

function readWindow(since: string, until: string): TimeWindow | null {
  const [from, to] = [Date.parse(since) / 1000, Date.parse(until) / 1000];
  return from < to ? { sinceUnixS: from, untilUnixS: to } : null;
}

/** RFC 3339 in UTC, without a fraction that is zero. */
export function formatTime(unixS: number): string {
  return new Date(Math.round(unixS * 1000)).toISOString().replace(".000Z", "Z");
}
