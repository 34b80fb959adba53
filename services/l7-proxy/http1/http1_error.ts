/** What makes a connection of HTTP/1.1 end: a message that two readers could read differently, or one beyond a limit. @module */

/** Every reason why the reader of HTTP/1.1 gives a connection up; flows and counters name it. */
export const HTTP1_FAULTS = {
  "tls": "TLS on a port with an http rule: expected HTTP in plain text",
  "http2": "HTTP/2 behind a request of HTTP/1.1, to which nobody had agreed",
  "not-http": "these bytes are no HTTP request",
  "bad-method": "the method is no token",
  "method-too-long": "the method is too long",
  "connect": "CONNECT would open a tunnel past the rules",
  "bad-request-line": "the request line is not METHOD SP TARGET SP VERSION",
  "request-line-too-long": "the request line is too long",
  "bad-target": "the target is neither a path, nor an http URL, nor *",
  "bad-version": "the version is neither HTTP/1.0 nor HTTP/1.1",
  "bad-line-end": "a line ends without CR LF, or has a CR inside",
  "folded-field": "a field goes on in the next line",
  "bad-field-name": "a field's name is no token",
  "bad-field-value": "a field's value has a control character",
  "field-too-many": "the head has too many fields",
  "head-too-long": "the head is too long",
  "bad-host": "HTTP/1.1 wants exactly one Host, a name or an address with its port",
  "other-authority": "the target names another host than the field Host",
  "length-and-coding": "Content-Length and Transfer-Encoding stand together",
  "bad-length": "Content-Length is not one number",
  "bad-coding": "Transfer-Encoding does not end in chunked, once",
  "bad-connection":
    "Connection names a field that says where the message ends, or whose it is, or what is no token",
  "disguised-field": "a field's name is Content-Length or Transfer-Encoding, but for an underscore",
  "bad-expect": "Expect is not 100-continue",
  "bad-chunk": "a chunk is not SIZE CR LF DATA CR LF",
  "chunk-extension-too-long": "a chunk's extension is too long",
  "bad-trailer": "the fields after the last chunk cannot be read",
  "trailer-too-long": "the fields after the last chunk are too long",
  "bad-status-line": "the status line is not VERSION SP CODE SP TEXT",
  "unasked-answer": "the server answered what nobody had asked",
  "unasked-upgrade": "the server changed the protocol, and nobody had asked for it",
  "answer-too-many": "the server sent too many answers of the form 1xx",
  "early-end": "the connection ended inside a message",
} as const;

/** One of {@link HTTP1_FAULTS}. */
export type Http1Fault = keyof typeof HTTP1_FAULTS;

/** Status of the answer to a fault of a request; 400 where none is named, 0: none. */
const STATUS: Partial<Record<Http1Fault, number>> = {
  "tls": 0,
  "http2": 0,
  "not-http": 0,
  "request-line-too-long": 414,
  "head-too-long": 431,
  "field-too-many": 431,
  "bad-version": 505,
  "bad-expect": 417,
};

/** A message of HTTP/1.1 that is not read on. */
export class Http1Error extends Error {
  override readonly name = "Http1Error";

  /** @param found what was there, cut short: "Content-Length: +5" */
  constructor(readonly code: Http1Fault, found = "") {
    super(
      `${HTTP1_FAULTS[code]}${found === "" ? "" : `: found ${JSON.stringify(found.slice(0, FOUND_MAX))}`}`,
    );
  }

  /** What a client is answered before its connection ends; 0: nothing that it could read. */
  get status(): number {
    return STATUS[this.code] ?? 400;
  }
}

const FOUND_MAX = 60;
