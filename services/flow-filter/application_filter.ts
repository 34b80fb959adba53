/**
 * Fields of Hubble's FlowFilter about what an application said (HTTP, DNS), traces, and expressions.
 * @module
 */
import type { Flow, FlowFilter, HTTPHeader } from "@weir/proto/flow";
import type { Init } from "@weir/proto";
import { type FilterEngines, filterInvalid } from "./filter_engines.ts";

/** `event_type.type` of what a proxy or the DNS server reports an application to have said. */
export const L7_EVENT = 129;

type Predicate = (flow: Flow) => boolean;
type Compiler = (values: never[], engines: FilterEngines) => Predicate;

/** Field -> how its values become a predicate. */
export const APPLICATION_FIELDS: { readonly [K in keyof FlowFilter]?: Compiler } = {
  http_status_code: (values: string[]) => {
    const any = values.map(readStatus);
    return ({ l7 }) => {
      const code = l7?.http?.code ?? 0;
      return code !== 0 && any.some((matches) => matches(`${code}`));
    };
  },
  http_method: (values: string[]) => {
    const wanted = new Set(values.map((value) => value.toUpperCase()));
    return ({ l7 }) => l7?.http !== undefined && wanted.has(l7.http.method.toUpperCase());
  },
  http_path: (values: string[], { pattern }) => {
    const any = values.map((value) => pattern("http_path", value));
    return ({ l7 }) => {
      const path = l7?.http && pathOf(l7.http.url);
      return path !== undefined && any.some((matches) => matches(path));
    };
  },
  http_url: (values: string[], { pattern }) => {
    const any = values.map((value) => pattern("http_url", value));
    return ({ l7 }) => l7?.http !== undefined && any.some((matches) => matches(l7.http!.url));
  },
  http_header: (values: Init<HTTPHeader>[]) => ({ l7 }) =>
    l7?.http?.headers.some(({ key, value }) =>
      values.some((one) => (one.key ?? "") === key && (one.value ?? "") === value)
    ) ?? false,
  dns_query: (values: string[], { pattern }) => {
    const any = values.map((value) => pattern("dns_query", value));
    return ({ l7 }) => l7?.dns !== undefined && any.some((matches) => matches(l7.dns!.query));
  },
  trace_id: (values: string[]) => {
    const wanted = new Set(values);
    return ({ trace_context }) => wanted.has(trace_context?.parent?.trace_id ?? "");
  },
  ip_trace_id: (values: number[]) => {
    const wanted = new Set(values);
    return ({ ip_trace_id }) => wanted.has(ip_trace_id?.trace_id ?? 0);
  },
  encrypted: (values: boolean[]) => {
    const wanted = new Set(values);
    return ({ IP }) => wanted.has(IP?.encrypted ?? false);
  },
  experimental: ([value]: Init<FlowFilter>["experimental"][], { expression }) => {
    const any = (value?.cel_expression ?? []).map((text) => expression(text));
    return (flow) => any.length === 0 || any.some((holds) => holds(flow));
  },
};

/** HTTP is asked of events of applications: a filter that wants others only can match nothing. @throws {ProblemError} */
export function checkHttp({ event_type: types = [], ...filter }: Init<FlowFilter>): void {
  if (types.length === 0 || types.some(({ type }) => type === L7_EVENT)) return;
  for (const field of HTTP_FIELDS) {
    if ((filter[field]?.length ?? 0) > 0) {
      throw filterInvalid("event_type", types.map(({ type }) => type), `l7 (${L7_EVENT}) beside ${field}`);
    }
  }
}
const HTTP_FIELDS = ["http_status_code", "http_method", "http_path", "http_url", "http_header"] as const;

/** "404", or "4+" and "40+" for all that begin so. */
function readStatus(value: string): (code: string) => boolean {
  if (!/^([1-5][0-9]{2}|[1-5][0-9]?\+)$/.test(value)) {
    throw filterInvalid("http_status_code", value, "a status such as 404, 4+ or 40+");
  }
  return value.endsWith("+") ? (code) => code.startsWith(value.slice(0, -1)) : (code) => code === value;
}

/** The path of a URL, without its query; undefined for what is no URL. */
function pathOf(url: string): string | undefined {
  const base = url.startsWith("/") ? `http://host${url}` : url;
  return URL.canParse(base) ? decodedPath(new URL(base).pathname) : undefined;
}

function decodedPath(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
