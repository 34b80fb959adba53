/**
 * The head of a request: strict, because what is judged here must be what the server reads. Whatever two readers could take for
 * different messages is refused (RFC 9112; ../README.md has the list).
 * @module
 */
import {
  type Field,
  HeadText,
  isToken,
  isTokenByte,
  listOf,
  lowerCase,
  readFields,
  textOf,
} from "./fields.ts";
import { Http1Error } from "./http1_error.ts";
import { HTTP1_LIMITS } from "./limits.ts";
import { readTarget, type Target } from "./target.ts";

/** How the end of a body is told. */
export type BodyKind = "none" | "length" | "chunked" | "until-close";

/** A request as far as its head says it. */
export interface RequestHead {
  readonly method: string;
  readonly target: Target;
  /** Where the target is in the bytes. */
  readonly targetStart: number;
  readonly targetEnd: number;
  readonly version: "HTTP/1.1" | "HTTP/1.0";
  /** Where fields begin in the bytes, and the message's body. */
  readonly fieldsStart: number;
  readonly end: number;
  readonly fields: readonly Field[];
  /** The authority that was asked for: of the target, else the field Host as sent; "" where HTTP/1.0 names none. */
  readonly host: string;
  readonly body: "none" | "length" | "chunked";
  /** Of `length`. */
  readonly length: number;
  /** The client takes another request on this connection. */
  readonly keepsAlive: boolean;
  readonly expectsContinue: boolean;
  /** It asks to speak WebSocket afterwards. */
  readonly isWebSocket: boolean;
  /** It asks for a protocol that nobody would judge; those fields are not passed on. */
  readonly hasForeignUpgrade: boolean;
}

const SPACE = 32, CR = 13;

/**
 * Looks at the first bytes of a connection or request before a line is there: what is no HTTP/1 never sends one.
 * @throws {Http1Error} tls, http2, not-http
 */
export function checkFirstBytes(bytes: Uint8Array, start: number, end: number): void {
  const first = bytes[start];
  // A record of TLS: handshake (22), version 3.x.
  if (first === 0x16 && (end - start < 2 || bytes[start + 1] === 3)) throw new Http1Error("tls");
  if (!isTokenByte(first)) throw new Http1Error("not-http", textOf(bytes, start, Math.min(start + 16, end)));
  if (end - start >= PREFACE.length && PREFACE.every((byte, at) => bytes[start + at] === byte)) {
    throw new Http1Error("http2");
  }
}
const PREFACE = new TextEncoder().encode("PRI * HTTP/2.0\r\n");

/**
 * Reads the head that lies in `bytes` from `start` to `end`, empty line included.
 * @throws {Http1Error}
 */
export function readRequestHead(bytes: Uint8Array, start: number, end: number): RequestHead {
  let at = start;
  while (isTokenByte(bytes[at])) at++;
  if (at === start || bytes[at] !== SPACE) {
    throw new Http1Error("bad-method", textOf(bytes, start, Math.min(at + 1, end)));
  }
  if (at - start > HTTP1_LIMITS.method) throw new Http1Error("method-too-long", textOf(bytes, start, at));
  // Method and target are ASCII, or refused; a version that is not is none of the two.
  const text = new HeadText(bytes, start, end), method = text.slice(start, at);
  if (method === "CONNECT") throw new Http1Error("connect");
  const targetStart = ++at;
  while (bytes[at] > SPACE && bytes[at] < 127 && bytes[at] !== HASH) at++;
  const targetEnd = at;
  if (bytes[at] !== SPACE) {
    throw new Http1Error(
      bytes[at] === CR ? "bad-request-line" : "bad-target",
      textOf(bytes, targetStart, at + 1),
    );
  }
  let lineEnd = ++at;
  while (bytes[lineEnd] !== CR) lineEnd++;
  if (lineEnd - start > HTTP1_LIMITS.requestLine) throw new Http1Error("request-line-too-long");
  const version = text.slice(at, lineEnd);
  if (version !== "HTTP/1.1" && version !== "HTTP/1.0") {
    if (/^HTTP\/\d\.\d$/.test(version)) throw new Http1Error("bad-version", version);
    throw new Http1Error("bad-request-line", version);
  }
  const target = readTarget(text.slice(targetStart, targetEnd), method);
  const fieldsStart = lineEnd + 2;
  const fields = readFields(bytes, fieldsStart, end, text);
  const framing = readFraming(fields, version);
  return {
    method,
    target,
    targetStart,
    targetEnd,
    version,
    fieldsStart,
    end,
    fields,
    ...readMeaning(fields, version, target),
    ...framing,
  };
}
const HASH = 35;

/** Where the message ends. @throws {Http1Error} */
export function readFraming(
  fields: readonly Field[],
  version: string,
): { body: "none" | "length" | "chunked"; length: number } {
  let length: string | undefined, coding: string | undefined;
  for (const { key, value } of fields) {
    switch (key) {
      case "content-length":
        if (length !== undefined) throw new Http1Error("bad-length", `${length}, ${value}`);
        length = value;
        break;
      case "transfer-encoding":
        if (coding !== undefined) throw new Http1Error("bad-coding", `${coding}, ${value}`);
        coding = value;
        break;
      // Programs behind CGI and its kind cannot tell them apart.
      case "content_length":
      case "transfer_encoding":
        throw new Http1Error("disguised-field", key);
    }
  }
  if (length !== undefined && coding !== undefined) throw new Http1Error("length-and-coding");
  if (coding !== undefined) {
    const codings = listOf(coding);
    const isOnce = codings.at(-1) === "chunked" && codings.indexOf("chunked") === codings.length - 1;
    if (version === "HTTP/1.0" || !isOnce || !codings.every(isToken)) {
      throw new Http1Error("bad-coding", `${coding} (${version})`);
    }
    return { body: "chunked", length: 0 };
  }
  if (length === undefined) return { body: "none", length: 0 };
  // Zeros in front do not change a number, but a reader may take them for another base.
  if (!/^\d{1,16}$/.test(length) || Number(length) > Number.MAX_SAFE_INTEGER) {
    throw new Http1Error("bad-length", length);
  }
  return { body: Number(length) === 0 ? "none" : "length", length: Number(length) };
}

/** Fields that `Connection` must not name: a reader that takes it at its word would drop them. */
const NEVER_HOP_BY_HOP = ["host", "content-length", "transfer-encoding", "connection"];

function readMeaning(fields: readonly Field[], version: string, target: Target) {
  let host: string | undefined, upgrade: string | undefined, hasSettings = false;
  let closes = false, keeps = false, expectsContinue = false, namesUpgrade = false;
  for (const { key, value } of fields) {
    switch (key) {
      case "host":
        if (host !== undefined) throw new Http1Error("bad-host", `${host}, ${value}`);
        if (!HOST.test(value)) throw new Http1Error("bad-host", value);
        host = value;
        break;
      case "connection":
        for (const name of listOf(value)) {
          if (NEVER_HOP_BY_HOP.includes(name) || (name !== "" && !isToken(name))) {
            throw new Http1Error("bad-connection", name);
          }
          if (name === "close") closes = true;
          if (name === "keep-alive") keeps = true;
          if (name === "upgrade") namesUpgrade = true;
        }
        break;
      case "expect":
        if (lowerCase(value) !== "100-continue") throw new Http1Error("bad-expect", value);
        expectsContinue = version === "HTTP/1.1";
        break;
      case "upgrade":
        upgrade = (upgrade === undefined ? "" : `${upgrade}, `) + lowerCase(value);
        break;
      case "http2-settings":
        hasSettings = true;
    }
  }
  if (host === undefined && version === "HTTP/1.1") throw new Http1Error("bad-host");
  if (target.authority !== undefined && host !== undefined && !isSameHost(target.authority, host)) {
    throw new Http1Error("other-authority", `${target.authority}, ${host}`);
  }
  const isWebSocket = upgrade === "websocket" && namesUpgrade && version === "HTTP/1.1" && !hasSettings;
  return {
    host: target.authority ?? host ?? "",
    keepsAlive: version === "HTTP/1.1" ? !closes : keeps && !closes,
    expectsContinue,
    isWebSocket,
    hasForeignUpgrade: !isWebSocket && (upgrade !== undefined || hasSettings || namesUpgrade),
  };
}

/** A name, an address, an address of IPv6 in brackets; a port. Empty is legal: whoever asks names nobody. */
export const HOST = /^(?:[-\w.~!$&'()*+;=%]*|\[[0-9a-fA-F:.]+\])(?::\d{0,5})?$/;

/** The same authority, but for case and the port that goes without saying. */
export function isSameHost(a: string, b: string): boolean {
  const plain = (host: string) => host.toLowerCase().replace(/:(?:80)?$/, "");
  return plain(a) === plain(b);
}
