/** What makes a connection of HTTP/2, or one of its streams, end. @module */

/** Error codes of RFC 9113, section 7. */
export const H2_ERROR = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  INTERNAL_ERROR: 2,
  FLOW_CONTROL_ERROR: 3,
  STREAM_CLOSED: 5,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  CANCEL: 8,
  COMPRESSION_ERROR: 9,
  ENHANCE_YOUR_CALM: 11,
} as const;

type ErrorName = keyof typeof H2_ERROR;

/** Every reason why the reader of HTTP/2 gives up a connection or a stream, in words and as the peer is told; flows and counters name it. */
export const HTTP2_FAULTS = {
  "not-http2": ["these bytes are no HTTP/2: the first frame is not SETTINGS", "PROTOCOL_ERROR"],
  "bad-frame-size": ["a frame has a length that its kind cannot have", "FRAME_SIZE_ERROR"],
  "bad-frame": ["a frame stands where its kind cannot", "PROTOCOL_ERROR"],
  "bad-stream-id": ["the number of a stream is not one that may be named here", "PROTOCOL_ERROR"],
  "bad-padding": ["a frame is shorter than its padding", "PROTOCOL_ERROR"],
  "bad-settings": ["a setting has a value that it cannot have", "PROTOCOL_ERROR"],
  "bad-compression": ["the fields cannot be decompressed", "COMPRESSION_ERROR"],
  "push": ["PUSH_PROMISE, and nobody had asked for it", "PROTOCOL_ERROR"],
  "zero-increment": ["WINDOW_UPDATE by nothing", "PROTOCOL_ERROR"],
  "window-overflow": ["a window grew beyond 2147483647 bytes", "FLOW_CONTROL_ERROR"],
  "window-exceeded": ["more was sent than the window had room for", "FLOW_CONTROL_ERROR"],
  "fields-too-large": ["the fields of a message are too many or too long", "PROTOCOL_ERROR"],
  "path-too-long": ["the path is too long", "PROTOCOL_ERROR"],
  "header-block-too-long": ["the fields of a message are too long", "ENHANCE_YOUR_CALM"],
  "continuation-flood": ["the fields of a message come in too many frames", "ENHANCE_YOUR_CALM"],
  "control-flood": ["too many frames that carry nothing", "ENHANCE_YOUR_CALM"],
  "reset-flood": ["too many requests that were given up at once", "ENHANCE_YOUR_CALM"],
  "unasked-answer": ["the server answered what nobody had asked", "PROTOCOL_ERROR"],
  "stream-closed": ["a message goes on after its end", "STREAM_CLOSED"],
  "bad-request-fields": ["the fields are not those of one request", "PROTOCOL_ERROR"],
  "bad-answer-fields": ["the fields are not those of one answer", "PROTOCOL_ERROR"],
  "bad-trailer": ["the fields after the body cannot be read", "PROTOCOL_ERROR"],
  "bad-length": ["content-length is not one number, or not what the body has", "PROTOCOL_ERROR"],
  "answer-too-many": ["the server sent too many answers of the form 1xx", "PROTOCOL_ERROR"],
} as const satisfies Record<string, readonly [string, ErrorName]>;

/** One of {@link HTTP2_FAULTS}. */
export type Http2Fault = keyof typeof HTTP2_FAULTS;

/** A connection of HTTP/2, or one stream of it, that is not read on. */
export class Http2Error extends Error {
  override readonly name = "Http2Error";

  /** @param found what was there, cut short @param stream the one that ends; 0: the connection */
  constructor(readonly code: Http2Fault, found = "", readonly stream = 0) {
    super(
      `${HTTP2_FAULTS[code][0]}${found === "" ? "" : `: found ${JSON.stringify(found.slice(0, FOUND_MAX))}`}`,
    );
  }

  /** The number that the peer is told. */
  get errorCode(): number {
    return H2_ERROR[HTTP2_FAULTS[this.code][1]];
  }
}

const FOUND_MAX = 60;
