/** google.protobuf.Timestamp of a time in milliseconds. @module */

/** Unix milliseconds, with a fraction, as seconds and nanoseconds from 0 on, before 1970 too. Pure. */
export function timestampOf(unixMs: number): { seconds: number; nanos: number } {
  const seconds = Math.floor(unixMs / 1000);
  return { seconds, nanos: Math.floor((unixMs - seconds * 1000) * 1e6) };
}
