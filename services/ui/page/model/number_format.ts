/**
 * Numbers and times as people read them: short, of one width as far as that goes, never more exact than they are.
 * @module
 */

const GROUPS = new Intl.NumberFormat("en-US");

/** "12,480". Not a number gives "–". */
export function formatCount(count: number): string {
  return Number.isFinite(count) ? GROUPS.format(Math.round(count)) : "–";
}

/** "999", "1.2k", "34k", "5.6M": at most four characters. */
export function formatShort(count: number): string {
  if (!Number.isFinite(count)) return "–";
  const size = Math.abs(count);
  for (const [unit, name] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]] as const) {
    // 999,500 would be "1000k".
    if (size >= unit * 0.9995) {
      const value = count / unit;
      return `${Math.abs(value) < 9.95 ? value.toFixed(1) : Math.round(value)}${name}`;
    }
  }
  return String(Math.round(count));
}

/** Per second: "0", "<0.1/s", "0.4/s", "12/s", "1.2k/s". */
export function formatRate(perSecond: number): string {
  if (!Number.isFinite(perSecond) || perSecond <= 0) return "0/s";
  if (perSecond < 0.05) return "<0.1/s";
  if (perSecond < 9.95) return `${perSecond.toFixed(1).replace(/\.0$/, "")}/s`;
  return `${formatShort(perSecond)}/s`;
}

/** 0.1234 as "12 %"; small ones keep a digit: "0.3 %". */
export function formatShare(share: number): string {
  if (!Number.isFinite(share)) return "–";
  const percent = share * 100;
  if (percent > 0 && percent < 0.1) return "<0.1 %";
  return `${percent < 9.95 && percent % 1 !== 0 ? percent.toFixed(1) : Math.round(percent)} %`;
}

/** How long, in its two largest units: "4s", "3m 20s", "2h 5m", "3d 4h". */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds));
  const units: readonly [number, string][] = [[86_400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  const first = units.findIndex(([size]) => whole >= size);
  if (first < 0) return "0s";
  const [size, name] = units[first];
  const rest = units[first + 1];
  const more = rest ? Math.floor((whole % size) / rest[0]) : 0;
  return `${Math.floor(whole / size)}${name}${more > 0 ? ` ${more}${rest[1]}` : ""}`;
}

/** "12s ago"; "just now" below two seconds; "never" for 0. */
export function formatAge(atUnixS: number, nowUnixS: number): string {
  if (!(atUnixS > 0)) return "never";
  const seconds = nowUnixS - atUnixS;
  if (seconds < 2) return "just now";
  const [largest] = formatDuration(seconds).split(" ");
  return `${largest} ago`;
}

const two = (n: number) => String(n).padStart(2, "0");

/** "14:03:09" by the reader's clock; with `fraction` "14:03:09.123". */
export function formatClock(unixS: number, fraction = false): string {
  const date = new Date(unixS * 1000);
  if (Number.isNaN(date.getTime())) return "–";
  const text = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return fraction ? `${text}.${String(date.getMilliseconds()).padStart(3, "0")}` : text;
}

/** "28 Nov 14:03:09". */
export function formatDateTime(unixS: number): string {
  const date = new Date(unixS * 1000);
  if (Number.isNaN(date.getTime())) return "–";
  return `${date.getDate()} ${MONTHS[date.getMonth()]} ${formatClock(unixS)}`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
