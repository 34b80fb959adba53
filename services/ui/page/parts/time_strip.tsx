/**
 * The strip of time over all pages: flows and drops, and the window that is looked at. Drag to choose one; its two ends are sliders
 * for the keyboard.
 * @module
 */
import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import type { TimeBucket, TimeStrip as Strip } from "../../api.ts";
import { apiUrl } from "../data/api_client.ts";
import { useNow } from "../data/clock.ts";
import { useLivePart } from "../data/live_store.ts";
import { useSession } from "../data/session.ts";
import { useColours } from "../data/theme.ts";
import { navigate, useUrlState } from "../data/url_store.ts";
import { useAnswer } from "../data/use_answer.ts";
import { useFilter } from "../data/use_filter.ts";
import { formatClock, formatCount, formatDateTime, formatDuration } from "../model/number_format.ts";
import { DotIcon } from "./icons.tsx";
import { joinBars } from "../model/strip_buckets.ts";
import { moveEnd, rangeFor, RANGES } from "../model/time_window.ts";

const HEIGHT = 58;

export function TimeStrip() {
  const { window, page } = useUrlState();
  const { parameters } = useFilter();
  const session = useSession();
  const now = useNow();
  const live = useLivePart("buckets"), liveStepS = useLivePart("stepS");
  const [chosenS, setChosenS] = useState(900);
  const rangeS = rangeFor(window, now, chosenS);
  // The axis moves in steps, not each second.
  const untilS = Math.ceil((now + 1) / liveStepS) * liveStepS;
  const sinceS = untilS - rangeS;
  const history = session?.history ?? false;
  // What the page did not see itself.
  const asked = history && (live.length === 0 || live[0].atUnixS > sinceS + liveStepS);
  const stepS = Math.max(liveStepS, rangeS / 240);
  const answer = useAnswer<Strip>(
    asked
      ? apiUrl("strip", [
        ["since", String(Math.floor(sinceS / 60) * 60)],
        ["until", String(Math.ceil(untilS / 60) * 60)],
        ["step", String(Math.round(stepS))],
        ...(page === "policies" || page === "health" ? [] : parameters),
      ])
      : null,
  );
  const past = asked ? answer.value : undefined;
  const bars = useMemo(() => past ? joinBars(past, live) : { stepS: liveStepS, buckets: live }, [
    past,
    live,
    liveStepS,
  ]);
  return (
    <section className="strip" aria-label="Time">
      <div className="strip-tools">
        <button
          type="button"
          className={`button live${window ? "" : " chosen"}`}
          aria-pressed={window === null}
          title={window ? "Back to now (l)" : "Shows what happens now"}
          onClick={() => navigate({ window: null })}
        >
          <DotIcon />
          Live
        </button>
        <label>
          <span className="unseen">Range of the strip</span>
          <select
            className="field"
            value={rangeS}
            onChange={(event) => setChosenS(Number(event.currentTarget.value))}
          >
            {RANGES.map((seconds) => <option key={seconds} value={seconds}>{formatDuration(seconds)}
            </option>)}
          </select>
        </label>
      </div>
      <Chart
        buckets={bars.buckets}
        sinceS={sinceS}
        untilS={untilS}
        stepS={bars.stepS}
      />
      <div className="strip-text">
        {window
          ? (
            <>
              <strong className="number">
                {rangeS > 43_200 ? formatDateTime(window.sinceUnixS) : formatClock(window.sinceUnixS)} –{" "}
                {formatClock(window.untilUnixS)}
              </strong>
              <span className="soft number">
                {formatDuration(window.untilUnixS - window.sinceUnixS)}, as it was then
                {asked && answer.value?.ofAll && "; the strip shows all flows"}
              </span>
            </>
          )
          : (
            <>
              <strong>{session && !history ? "No history" : "Drag over the strip"}</strong>
              <span className="soft" title={session?.historyReason}>
                {session && !history
                  ? session.historyReason || "Only what happens now"
                  : "to go back to that time"}
              </span>
            </>
          )}
      </div>
    </section>
  );
}

function Chart({ buckets, sinceS, untilS, stepS }: {
  buckets: readonly TimeBucket[];
  sinceS: number;
  untilS: number;
  stepS: number;
}) {
  const { window } = useUrlState();
  const root = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const colours = useColours();
  const [width, setWidth] = useState(0);
  const [under, setUnder] = useState(-1);
  const shown = useMemo(
    () => buckets.filter(({ atUnixS }) => atUnixS + stepS > sinceS && atUnixS < untilS),
    [buckets, sinceS, untilS, stepS],
  );
  const data = useMemo((): uPlot.AlignedData => [
    shown.map(({ atUnixS }) => atUnixS + stepS / 2),
    shown.map(({ flows }) => flows),
    shown.map(({ dropped, trouble }) => dropped + trouble),
  ], [shown, stepS]);

  useEffect(() => {
    const element = root.current!;
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const scale = useRef({ sinceS, untilS, stepS });
  scale.current = { sinceS, untilS, stepS };
  const latest = useRef(data);
  latest.current = data;
  useEffect(() => {
    if (width < 50) return;
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const bars = uPlot.paths.bars!({
      size: [0.86, 90],
      align: 0,
    });
    const chart = new uPlot(
      {
        width,
        height: HEIGHT,
        padding: [4, 0, 0, 0],
        legend: { show: false },
        cursor: {
          y: false,
          points: { show: false },
          drag: { x: true, y: false, setScale: false },
        },
        scales: {
          x: { time: true, range: () => [scale.current.sinceS, scale.current.untilS] },
          y: { range: (_, __, most) => [0, Math.max(1, most * 1.08)] },
        },
        axes: [
          {
            stroke: colours["text-soft"],
            font,
            size: 18,
            gap: 3,
            grid: { show: false },
            ticks: { show: false },
            space: 90,
            values: (_, splits) =>
              splits.map((at) => axisText(at, scale.current.untilS - scale.current.sinceS)),
          },
          { show: false },
        ],
        series: [
          {},
          { paths: bars, fill: colours.bar, width: 0, points: { show: false } },
          { paths: bars, fill: colours["bar-dropped"], width: 0, points: { show: false } },
        ],
        hooks: {
          setCursor: [(u) => setUnder(u.cursor.idx ?? -1)],
          setSelect: [
            (u) => {
              const { left, width: wide } = u.select;
              if (wide < 3) return;
              const since = u.posToVal(left, "x"), until = u.posToVal(left + wide, "x");
              u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
              const step = scale.current.stepS;
              navigate({
                window: {
                  sinceUnixS: Math.floor(since / step) * step,
                  untilUnixS: Math.max(
                    Math.floor(since / step) * step + step,
                    Math.ceil(until / step) * step,
                  ),
                },
              });
            },
          ],
        },
      },
      latest.current,
      root.current!,
    );
    plot.current = chart;
    return () => {
      chart.destroy();
      plot.current = undefined;
    };
  }, [width, colours]);
  useEffect(() => plot.current?.setData(data), [data, sinceS, untilS]);

  const bucket = under >= 0 ? shown[under] : undefined;
  const share = (atS: number) => Math.max(0, Math.min(1, (atS - sinceS) / (untilS - sinceS)));
  const total = shown.reduce((sum, { flows }) => sum + flows, 0);
  const dropped = shown.reduce((sum, one) => sum + one.dropped, 0);
  return (
    <div className="strip-chart">
      <p className="unseen">
        {formatCount(total)} flows and {formatCount(dropped)} drops in the last{" "}
        {formatDuration(untilS - sinceS)}
      </p>
      <div ref={root} className="strip-plot" aria-hidden="true" />
      {window && (
        <div
          className="strip-window"
          style={{
            left: `${share(window.sinceUnixS) * 100}%`,
            right: `${(1 - share(window.untilUnixS)) * 100}%`,
          }}
        />
      )}
      {window &&
        (["since", "until"] as const).map((end) => (
          <Handle
            key={end}
            end={end}
            at={share(end === "since" ? window.sinceUnixS : window.untilUnixS)}
            sinceS={sinceS}
            untilS={untilS}
            stepS={stepS}
          />
        ))}
      {bucket && (
        <div
          className="strip-tip number"
          style={{ left: `${Math.min(88, Math.max(0, share(bucket.atUnixS) * 100))}%` }}
        >
          <strong>{formatClock(bucket.atUnixS)}</strong> {formatCount(bucket.flows)} flows
          {bucket.dropped > 0 && (
            <span className="toned tone-dropped">, {formatCount(bucket.dropped)} dropped</span>
          )}
          {bucket.trouble > 0 && (
            <span className="toned tone-error">, {formatCount(bucket.trouble)} in trouble</span>
          )}
          {bucket.lost > 0 && `, ${formatCount(bucket.lost)} lost`}
        </div>
      )}
    </div>
  );
}

function Handle({ end, at, sinceS, untilS, stepS }: {
  end: "since" | "until";
  at: number;
  sinceS: number;
  untilS: number;
  stepS: number;
}) {
  const { window } = useUrlState();
  const root = useRef<HTMLDivElement>(null);
  if (!window) return null;
  const limits = { leastS: sinceS, mostS: untilS, stepS };
  const set = (toS: number) => navigate({ window: moveEnd(window, end, toS, limits) }, { replace: true });
  const value = end === "since" ? window.sinceUnixS : window.untilUnixS;
  return (
    <div
      ref={root}
      className="strip-handle"
      role="slider"
      tabIndex={0}
      aria-label={end === "since" ? "Begin of the window" : "End of the window"}
      aria-valuemin={Math.round(sinceS)}
      aria-valuemax={Math.round(untilS)}
      aria-valuenow={Math.round(value)}
      aria-valuetext={formatDateTime(value)}
      style={{ left: `${at * 100}%` }}
      onKeyDown={(event) => {
        const steps: Record<string, number> = {
          ArrowLeft: -1,
          ArrowRight: 1,
          ArrowDown: -1,
          ArrowUp: 1,
          PageDown: -10,
          PageUp: 10,
        };
        if (event.key in steps) set(value + steps[event.key] * stepS * (event.shiftKey ? 10 : 1));
        else if (event.key === "Home") set(sinceS);
        else if (event.key === "End") set(untilS);
        else return;
        event.preventDefault();
      }}
      onPointerDown={(event) => {
        event.preventDefault();
        event.currentTarget.focus();
        event.currentTarget.setPointerCapture(event.pointerId);
      }}
      onPointerMove={(event) => {
        if (!event.currentTarget.hasPointerCapture(event.pointerId)) return;
        const { left, width } = event.currentTarget.parentElement!.getBoundingClientRect();
        set(sinceS + ((event.clientX - left) / width) * (untilS - sinceS));
      }}
    />
  );
}

function axisText(atS: number, rangeS: number): string {
  return rangeS > 86_400
    ? formatDateTime(atS).slice(0, -3)
    : formatClock(atS).slice(0, rangeS <= 300 ? 8 : 5);
}
