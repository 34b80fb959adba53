/**
 * The fields of requests, answers and trailers: as strict as RFC 9113, section 8, because what is judged here must be what the server reads.
 * @module
 */
import { Http1Error } from "../http1/http1_error.ts";
import { HOST, isSameHost } from "../http1/request_head.ts";
import { NOT_IN_TRAILERS } from "../http1/body_reader.ts";
import { readTarget, type Target } from "../http1/target.ts";
import type { HeaderField, HeaderList } from "./header_field.ts";
import { Http2Error } from "./http2_error.ts";
import { HTTP2_LIMITS } from "./limits.ts";

/** A request as far as its fields say it. */
export interface RequestFields {
  readonly method: string;
  readonly scheme: string;
  /** `:authority`, or the field `host`; "" where neither is there. */
  readonly host: string;
  readonly target: Target;
  /** As they came. */
  readonly fields: readonly HeaderField[];
  /** Bytes of the body; undefined: it is not said. */
  readonly length: number | undefined;
  /** A call of gRPC. */
  readonly isGrpc: boolean;
}

/** An answer likewise. */
export interface AnswerFields {
  readonly status: number;
  readonly fields: readonly HeaderField[];
  readonly length: number | undefined;
}

/** What belongs to a connection of HTTP/1.1, and would be read as such by who passes the message on there. */
export const CONNECTION_FIELDS = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);
/** Programs behind CGI and its kind cannot tell them apart. */
const DISGUISED_FIELDS = new Set(["content_length", "transfer_encoding"]);
const METHOD = /^[-\w!#$%&'*+.^`|~]{1,32}$/;
const PATH = /^[!-"$-~]+$/;
const GRPC = /^application\/grpc(?:$|[+;])/;

/** @throws {Http2Error} bad-request-fields, bad-length; of a stream */
export function readRequest({ fields }: HeaderList, stream: number): RequestFields {
  const fault = (found: string) => new Http2Error("bad-request-fields", found, stream);
  let method: string | undefined, scheme: string | undefined, path: string | undefined;
  let authority: string | undefined, host: string | undefined, isGrpc = false, isBehind = false;
  for (const field of fields) {
    const { name, value } = field;
    if (!field.isWell) throw fault(`${name}: ${value}`);
    if (name.startsWith(":")) {
      if (isBehind) throw fault(`${name} behind other fields`);
      let before: string | undefined;
      if (name === ":method") [before, method] = [method, value];
      else if (name === ":scheme") [before, scheme] = [scheme, value];
      else if (name === ":path") [before, path] = [path, value];
      else if (name === ":authority") [before, authority] = [authority, value];
      else throw fault(name);
      if (before !== undefined) throw fault(`${name} twice`);
      continue;
    }
    isBehind = true;
    if (CONNECTION_FIELDS.has(name) || DISGUISED_FIELDS.has(name)) throw fault(name);
    if (name === "te" && value !== "trailers") throw fault(`te: ${value}`);
    if (name === "host") {
      if (host !== undefined) throw fault("host twice");
      host = value;
    }
    if (name === "content-type") isGrpc = GRPC.test(value);
  }
  if (method === undefined || scheme === undefined || path === undefined) {
    throw fault(`no ${method === undefined ? ":method" : scheme === undefined ? ":scheme" : ":path"}`);
  }
  if (!METHOD.test(method)) throw fault(`:method ${method}`);
  if (method === "CONNECT") throw fault("CONNECT, which would open a tunnel past the rules");
  if (scheme !== "http" && scheme !== "https") throw fault(`:scheme ${scheme}`);
  if (!PATH.test(path) || (path[0] !== "/" && path !== "*")) throw fault(`:path ${path}`);
  for (const one of [authority, host]) if (one !== undefined && !HOST.test(one)) throw fault(`host ${one}`);
  if (authority !== undefined && host !== undefined && !isSameHost(authority, host)) {
    throw fault(`:authority ${authority}, host ${host}`);
  }
  let target: Target;
  try {
    target = readTarget(path, method);
  } catch (error) {
    throw error instanceof Http1Error ? fault(`:path ${path}`) : error;
  }
  return {
    method,
    scheme,
    host: authority ?? host ?? "",
    target,
    fields,
    length: readLength(fields, stream),
    isGrpc: isGrpc && method === "POST",
  };
}

/** @throws {Http2Error} bad-answer-fields, bad-length; of a stream */
export function readAnswer({ fields, isTooLarge }: HeaderList, stream: number): AnswerFields {
  const fault = (found: string) => new Http2Error("bad-answer-fields", found, stream);
  if (isTooLarge) {
    throw fault(`more than ${HTTP2_LIMITS.fieldCount} fields or ${HTTP2_LIMITS.headerList} bytes`);
  }
  for (const [at, field] of fields.entries()) {
    const { name } = field;
    if (!field.isWell || CONNECTION_FIELDS.has(name)) throw fault(`${name}: ${field.value}`);
    if (name.startsWith(":") !== (at === 0) || (at === 0 && name !== ":status")) throw fault(name);
  }
  const status = fields[0]?.value ?? "";
  if (!/^[1-9]\d\d$/.test(status) || status === "101") throw fault(`:status ${status}`);
  return { status: Number(status), fields, length: readLength(fields, stream) };
}

/**
 * The fields after a body, without those that have no business there.
 * @throws {Http2Error} bad-trailer; of a stream
 */
export function readTrailer({ fields, isTooLarge }: HeaderList, stream: number): HeaderField[] {
  if (isTooLarge) throw new Http2Error("bad-trailer", "too many", stream);
  for (const field of fields) {
    if (field.isWell && !field.name.startsWith(":") && !CONNECTION_FIELDS.has(field.name)) continue;
    throw new Http2Error("bad-trailer", field.name, stream);
  }
  return fields.filter(({ name }) => !NOT_IN_TRAILERS.has(name.replaceAll("_", "-")));
}

/** The value of a field as rules see it: several joined, a cookie's parts as one cookie (RFC 9113, 8.2.3). */
export function valueOf(request: RequestFields, name: string): string | undefined {
  if (name === "host") return request.host === "" ? undefined : request.host;
  let joined: string | undefined;
  for (const field of request.fields) {
    if (field.name !== name || name.startsWith(":")) continue;
    joined = joined === undefined ? field.text : `${joined}${name === "cookie" ? "; " : ","}${field.text}`;
  }
  return joined;
}

function readLength(fields: readonly HeaderField[], stream: number): number | undefined {
  let length: string | undefined;
  for (const { name, value } of fields) {
    if (name !== "content-length") continue;
    if (length !== undefined || !/^\d{1,16}$/.test(value) || Number(value) > Number.MAX_SAFE_INTEGER) {
      throw new Http2Error("bad-length", value, stream);
    }
    length = value;
  }
  return length === undefined ? undefined : Number(length);
}
