/**
 * Windows on the strip: which range shows one, and how its ends move. Pure; seconds.
 * @module
 */
import type { TimeWindow } from "./url_state.ts";

/** How much the strip can show. */
export const RANGES: readonly number[] = [900, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600];

/** The chosen range, or a larger one that the window is in. */
export function rangeFor(window: TimeWindow | null, nowS: number, chosenS: number): number {
  if (!window) return chosenS;
  const neededS = nowS - window.sinceUnixS;
  return RANGES.find((rangeS) => rangeS >= chosenS && rangeS >= neededS) ?? RANGES[RANGES.length - 1];
}

/** The window with one end moved: on the steps, within the limits, and never shorter than one step. */
export function moveEnd(
  window: TimeWindow,
  end: "since" | "until",
  toS: number,
  { leastS, mostS, stepS }: { leastS: number; mostS: number; stepS: number },
): TimeWindow {
  const at = Math.round(Math.max(leastS, Math.min(mostS, toS)) / stepS) * stepS;
  return end === "since"
    ? { ...window, sinceUnixS: Math.min(at, window.untilUnixS - stepS) }
    : { ...window, untilUnixS: Math.max(at, window.sinceUnixS + stepS) };
}
