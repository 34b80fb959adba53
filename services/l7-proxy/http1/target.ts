/**
 * The target of a request, and the one form of its path that is judged and passed on. Of two paths that servers take for the same
 * one only the plain one goes on: dot segments are resolved, `//` and `\` become `/`. `%2F` and `%5C` may mean a separator or not, so
 * who asks for such a path is sent to the one with the separator.
 * @module
 */
import { Http1Error } from "./http1_error.ts";

/** A target. */
export interface Target {
  /** As sent. */
  readonly text: string;
  /** Of the form http://AUTHORITY/PATH; undefined for the others. */
  readonly authority: string | undefined;
  /** Path with its query, normal: what rules see. `*` stands for itself. */
  readonly path: string;
  /** What is passed on: `text`, unless the path was not normal. */
  readonly forwarded: string;
  /** Path with its query that the client is sent to instead; undefined: the request may go on. */
  readonly redirect: string | undefined;
}

/** @throws {Http1Error} bad-target */
export function readTarget(text: string, method: string): Target {
  if (text === "*") {
    if (method !== "OPTIONS") throw new Http1Error("bad-target", `${method} *`);
    return { text, authority: undefined, path: text, forwarded: text, redirect: undefined };
  }
  const [, scheme = "", authority = undefined, rest = text] = ABSOLUTE.exec(text) ?? [];
  if (
    authority !== undefined && (authority === "" || authority.includes("@") || !AUTHORITY.test(authority))
  ) {
    throw new Http1Error("bad-target", text);
  }
  const given = authority === undefined ? text : rest.startsWith("/") ? rest : `/${rest}`;
  if (!given.startsWith("/")) throw new Http1Error("bad-target", text);
  const question = given.indexOf("?");
  const rawPath = question < 0 ? given : given.slice(0, question);
  const query = question < 0 ? "" : given.slice(question);
  if (/%00/.test(rawPath) || DOTS_WITH_PARAMETER.test(rawPath)) throw new Http1Error("bad-target", text);
  const path = normalPath(rawPath) + query;
  const redirect = ESCAPED_SLASH.test(rawPath)
    ? normalPath(rawPath.replace(/%2f/gi, "/").replace(/%5c/gi, "\\")) + query
    : undefined;
  return {
    text,
    authority,
    path,
    forwarded: path === given ? text : scheme + (authority ?? "") + path,
    redirect,
  };
}

const ABSOLUTE = /^(https?:\/\/)([^/?]*)(.*)$/i;
const AUTHORITY = /^(?:[-\w.~!$&'()*+;=%]+|\[[0-9a-fA-F:.]+\])(?::\d{0,5})?$/;
/** `/..;x`: dots for servers that drop path parameters first, a name for all others. */
const DOTS_WITH_PARAMETER = /(?:[/\\]|%2f|%5c)(?:\.|%2e){1,2}(?:;|%3b)/i;
const ESCAPED_SLASH = /%2f|%5c/i;
/** What a path that is not normal has: `//`, `/.`, `/%2e`, a backslash. */
const NOT_NORMAL = /\/\/|\/\.|\/%2e|\\/i;

/** The path without dot segments, double slashes and backslashes. It begins with one slash. */
export function normalPath(path: string): string {
  if (!NOT_NORMAL.test(path)) return path;
  const segments = path.replaceAll("\\", "/").split("/").slice(1);
  const kept: string[] = [];
  let endsOpen = false;
  for (const [index, segment] of segments.entries()) {
    const plain = segment.replace(/%2e/gi, ".");
    const isLast = index === segments.length - 1;
    endsOpen = false;
    if (plain === "..") kept.pop();
    else if (plain !== "." && segment !== "") {
      kept.push(segment);
      continue;
    }
    endsOpen = isLast;
  }
  return `/${kept.join("/")}${endsOpen && kept.length > 0 ? "/" : ""}`;
}
