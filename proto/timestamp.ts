/** google.protobuf.Timestamp of a time in milliseconds. @module */

/** Unix milliseconds, with a fraction, as seconds and nanoseconds. Pure. */
export function timestampOf(unixMs: number): { seconds: number; nanos: number } {
  return { seconds: Math.floor(unixMs / 1000), nanos: Math.floor((unixMs % 1000) * 1e6) };
}
