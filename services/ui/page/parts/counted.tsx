/**
 * What an answer about a window is made of: how much of what happened, and of which time where that is not quite the one chosen.
 * @module
 */
import type { Completeness } from "../../api.ts";
import { useUrlState } from "../data/url_store.ts";
import { formatClock } from "../model/number_format.ts";

/** Nothing while now is looked at: then the head of the page says it. */
export function Counted({ of }: {
  of:
    | { readonly sinceUnixS: number; readonly untilUnixS: number; readonly completeness: Completeness }
    | undefined;
}) {
  const { window } = useUrlState();
  if (!window || !of) return null;
  const isWider = of.sinceUnixS !== window.sinceUnixS || of.untilUnixS !== window.untilUnixS;
  return (
    <span className="soft number counted">
      {of.completeness.text}
      {isWider &&
        `, whole minutes ${formatClock(of.sinceUnixS).slice(0, 5)} to ${
          formatClock(of.untilUnixS).slice(0, 5)
        }`}
    </span>
  );
}
