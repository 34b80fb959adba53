/**
 * What a peer did to HTTP/2 that its connection was cut for, as far as the end of the session and its last frames tell. Pure.
 * @module
 */

/**
 * `resets`: calls opened and taken back. `calls`: more than may be open. `settings`, `pings`: so many that their answers piled up.
 * `headers`: without an end, or that cannot be unpacked. `window`: beyond all bounds. `frames`: too long, or out of place.
 * `preface`: no HTTP/2 at all.
 */
export type AbuseKind =
  | "resets"
  | "calls"
  | "settings"
  | "pings"
  | "headers"
  | "window"
  | "frames"
  | "preface";

/** How a session ended. */
export interface SessionEnd {
  /** Of nghttp2; undefined: the session told no error of HTTP/2. */
  readonly errno: number | undefined;
  /** Of the GOAWAY that nghttp2 sent; 0: none, or without an error. */
  readonly goawayCode: number;
  /** Types of the last frames that came. */
  readonly recentFrames: readonly number[];
}

/** Types of frames (RFC 9113 section 6). */
const HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PING = 6;
/** nghttp2's errors: of a preface, of too many answers that wait, of CONTINUATION without an end. */
const BAD_PREFACE = -903, FLOODED = -904, TOO_MANY_CONTINUATIONS = -905;
/** Codes of GOAWAY (RFC 9113 section 7). */
const INTERNAL = 2, FLOW_CONTROL = 3, COMPRESSION = 9, ENHANCE_YOUR_CALM = 11;

/** Undefined: it ended as connections do. */
export function abuseOf({ errno, goawayCode, recentFrames }: SessionEnd): AbuseKind | undefined {
  if (errno === undefined && goawayCode === 0) return undefined;
  if (errno === BAD_PREFACE) return "preface";
  if (errno === TOO_MANY_CONTINUATIONS || goawayCode === COMPRESSION) return "headers";
  const count = (type: number) => recentFrames.filter((each) => each === type).length;
  if (errno === FLOODED) return count(SETTINGS) >= count(PING) ? "settings" : "pings";
  if (goawayCode === FLOW_CONTROL) return "window";
  if (goawayCode === INTERNAL || goawayCode === ENHANCE_YOUR_CALM) {
    // Each call that is taken back has come before.
    if (count(RST_STREAM) * 4 >= recentFrames.length) return "resets";
    if (count(HEADERS) > 0) return "calls";
  }
  return "frames";
}
