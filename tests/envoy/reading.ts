/** Requests in the one form in which what was judged and what Envoy passed on are compared. @module */
import { bytesOf } from "../../services/l7-proxy/testing.ts";
import type { SeenRequest } from "./origin.ts";

/** What belongs to one hop or to Envoy, and is no part of what is asked. */
const NOT_COMPARED = new Set([
  ..."connection,keep-alive,proxy-connection,transfer-encoding,content-length,upgrade,te,expect".split(","),
  ..."http2-settings,host,x-forwarded-proto,x-oracle-from,trailer".split(","),
]);

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
/** Bytes, one character for each, as text. */
export const utf8 = (text: string) => decoder.decode(bytesOf(text));

type Fields = readonly (readonly [name: string, value: string])[];

/** Whoever passes a request on leaves out what `Connection` names (RFC 9110, 7.6.1), and Envoy does. */
function namedByConnection(fields: Fields): string[] {
  return fields.filter(([name]) => name.toLowerCase() === "connection")
    .flatMap(([, value]) => value.toLowerCase().split(",").map((one) => one.trim()));
}

/** @param fields values as text; of several with one name it counts in which order they came */
export function shown(
  { method, path, host, fields }: {
    method: string;
    path: string;
    host: string;
    fields: Fields;
  },
): string {
  const values = new Map<string, string[]>(), hopByHop = namedByConnection(fields);
  for (const [name, value] of fields) {
    const key = name.toLowerCase();
    if (NOT_COMPARED.has(key) || hopByHop.includes(key)) continue;
    const parts = value.split(key === "cookie" ? ";" : ",").map((part) =>
      part.replace(/^[ \t]+|[ \t]+$/g, "")
    );
    values.set(key, [...values.get(key) ?? [], ...parts]);
  }
  const lines = [...values].map(([name, parts]) => `${name}=${JSON.stringify(parts.join())}`).sort();
  return `${method} ${path} at ${host.toLowerCase()} ${lines.join(" ")}`;
}

/** What Envoy passed on. @param host where the request may have none */
export function shownOf(request: SeenRequest): string {
  return shown({
    method: request.method,
    path: request.target,
    host: request.fields.find(([name]) => name === "host")?.[1] ?? "",
    fields: request.fields.map(([name, value]) => [name, utf8(value)]),
  });
}
