/**
 * Times of flows as text: the formats of `hubble observe --time-format`, in UTC.
 *
 * @module
 */

/** A time of a message; undefined where there is none. */
export type Time = { readonly seconds: number; readonly nanos: number } | undefined;

const pad = (n: number, width = 2) => String(n).padStart(width, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

const day = (d: Date) => `${pad(d.getUTCFullYear(), 4)}-${pad(d.getUTCMonth() + 1)}-${pad(d.getUTCDate())}`;
const clock = (d: Date) => `${pad(d.getUTCHours())}:${pad(d.getUTCMinutes())}:${pad(d.getUTCSeconds())}`;
/** ".5" of 500,000,000 ns; zeros at the end are left out, and a fraction that is none. */
const fraction = (nanos: number, digits: number) => {
  const text = pad(nanos, 9).slice(0, digits).replace(/0+$/, "");
  return text === "" ? "" : `.${text}`;
};
const rfc3339 = (digits: number) => (d: Date, nanos: number) =>
  `${day(d)}T${clock(d)}${digits === 0 ? "" : fraction(nanos, digits)}Z`;

const FORMATS: Readonly<Record<string, (d: Date, nanos: number) => string>> = {
  StampMilli: (d, nanos) =>
    `${MONTHS[d.getUTCMonth()]} ${String(d.getUTCDate()).padStart(2)} ${clock(d)}.${
      pad(Math.floor(nanos / 1e6), 3)
    }`,
  YearMonthDay: day,
  YearMonthDayHour: (d) => `${day(d)}T${pad(d.getUTCHours())}Z`,
  YearMonthDayHourMinute: (d) => `${day(d)}T${pad(d.getUTCHours())}:${pad(d.getUTCMinutes())}Z`,
  RFC3339: rfc3339(0),
  RFC3339Milli: rfc3339(3),
  RFC3339Micro: rfc3339(6),
  RFC3339Nano: rfc3339(9),
  RFC1123Z: (d) =>
    `${DAYS[d.getUTCDay()]}, ${pad(d.getUTCDate())} ${MONTHS[d.getUTCMonth()]} ${d.getUTCFullYear()} ${
      clock(d)
    } +0000`,
};

/** Names of the formats. */
export const TIME_FORMATS: readonly string[] = Object.keys(FORMATS);
/** What times are written in where nobody says otherwise: "Nov 22 10:00:00.000". */
export const TIME_FORMAT_DEFAULT = "StampMilli";

/** A time in one of {@link TIME_FORMATS}; "N/A" where there is none that can be written. */
export function timeText(time: Time, format: string = TIME_FORMAT_DEFAULT): string {
  if (time === undefined || !(Math.abs(time.seconds) < 253_402_300_800)) return "N/A";
  return FORMATS[format](new Date(time.seconds * 1000), time.nanos);
}
