/** Answers that the proxy gives itself, in the server's place. @module */
import type { Http1Error } from "./http1_error.ts";
import type { RequestHead } from "./request_head.ts";

/** An answer, whole. */
export interface LocalAnswer {
  readonly status: number;
  readonly bytes: Uint8Array;
}

/** What a denied request is answered, as the field has it. */
export const DENIED_BODY = "Access denied\r\n";

const REASONS: Record<number, string> = {
  307: "Temporary Redirect",
  400: "Bad Request",
  403: "Forbidden",
  414: "URI Too Long",
  417: "Expectation Failed",
  431: "Request Header Fields Too Large",
  503: "Service Unavailable",
  505: "HTTP Version Not Supported",
};

const encoder = new TextEncoder();

/**
 * 403: the rules deny it. 307: the path is another, `detail` is where. 503: there is no server, `detail` says why.
 */
export function localAnswer(head: RequestHead, status: 403 | 307 | 503, detail = ""): LocalAnswer {
  const body = status === 403
    ? DENIED_BODY
    : status === 503
    ? `upstream connect error: ${plain(detail)}\r\n`
    : "";
  const ends = !head.keepsAlive || status === 503 || (head.expectsContinue && head.body !== "none");
  const fields = [
    `content-length: ${body.length}`,
    ...(body === "" ? [] : ["content-type: text/plain"]),
    ...(status === 307 ? [`location: ${detail}`] : []),
    ...(ends ? ["connection: close"] : head.version === "HTTP/1.0" ? ["connection: keep-alive"] : []),
  ];
  return { status, bytes: message(status, fields, head.method === "HEAD" ? "" : body) };
}

/** TLS's way to say "access denied" (49), fatal, before a version was agreed on. */
const TLS_ALERT = new Uint8Array([0x15, 3, 1, 0, 2, 2, 49]);

/** HTTP/2's way to say "use HTTP/1.1" (RFC 9113): SETTINGS, empty, then GOAWAY with the error HTTP_1_1_REQUIRED (13), no stream taken. */
const HTTP2_GOAWAY = new Uint8Array([
  ...[0, 0, 0, 4, 0, 0, 0, 0, 0],
  ...[0, 0, 8, 7, 0, 0, 0, 0, 0],
  ...[0, 0, 0, 0, 0, 0, 0, 13],
]);

/** What a client is told whose bytes are not read on; nothing where it could not read it. */
export function faultAnswer(error: Http1Error): Uint8Array {
  if (error.code === "tls") return TLS_ALERT;
  if (error.code === "http2") return HTTP2_GOAWAY;
  if (error.status === 0) return new Uint8Array(0);
  const body = `${plain(error.message)}\r\n`;
  return message(error.status, [
    `content-length: ${body.length}`,
    "content-type: text/plain",
    "connection: close",
  ], body);
}

function message(status: number, fields: readonly string[], body: string): Uint8Array {
  return encoder.encode(
    `HTTP/1.1 ${status} ${REASONS[status]}\r\n${fields.map((one) => `${one}\r\n`).join("")}\r\n${body}`,
  );
}

/** Printable ASCII alone, so that characters are bytes. */
function plain(text: string): string {
  return text.replace(/[^ -~]/g, "?");
}
