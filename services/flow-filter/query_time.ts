/** Times as people type them: those that `hubble observe --since` takes. @module */
import { timestampOf } from "@weir/proto/timestamp";
import { queryInvalid } from "./query_invalid.ts";

const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  "\u00b5s": 1e-3,
  "\u03bcs": 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const DURATION = /^(?:\d+(?:\.\d*)?(?:ns|us|\u00b5s|\u03bcs|ms|s|m|h|d))+$/;
/** Date, or date and time to the hour, minute or fraction of a second with a zone. */
const DATE = /^(\d{4}-\d\d-\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?)?(Z|[+-]\d\d:\d\d))?$/;
/** "Mon, 02 Jan 2006 15:04:05 -0700". */
const MAIL = /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d? [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}$/;
const EXPECTED =
  "how long ago (30s, 4m, 1h30m, 2d), a date (2026-11-22), or a time with its zone (2026-11-22T10:00:00Z)";

/** A time, or how long before now. @throws {ProblemError} QUERY_INVALID */
export function readTime(name: string, text: string, nowMs: number): { seconds: number; nanos: number } {
  const found = DURATION.test(text) ? ago(text, nowMs) : dateOf(text);
  // What no timestamp can hold is no time: year 1 to 9999.
  if (found === undefined || !(Math.abs(found.seconds) < 253_402_300_800)) {
    throw queryInvalid(name, text.slice(0, 80), EXPECTED);
  }
  return found;
}

function ago(text: string, nowMs: number): { seconds: number; nanos: number } {
  const ms = nowMs -
    [...text.matchAll(/(\d+(?:\.\d*)?)([^\d.]+)/g)]
      .reduce((sum, [, number, unit]) => sum + Number(number) * UNIT_MS[unit], 0);
  return timestampOf(ms);
}

function dateOf(text: string): { seconds: number; nanos: number } | undefined {
  const match = DATE.exec(text);
  const ms = match !== null
    ? Date.parse(
      `${match[1]}T${match[2] ?? "00"}:${match[3] ?? "00"}:${match[4] ?? "00"}${match[6] ?? "Z"}`,
    )
    : MAIL.test(text)
    ? Date.parse(text)
    : NaN;
  if (Number.isNaN(ms)) return undefined;
  // A date knows its fraction to the nanosecond; what was parsed has whole seconds.
  return { ...timestampOf(ms), nanos: Number((match?.[5] ?? "").padEnd(9, "0")) };
}
