/**
 * The page around the pages: navigation, the strip of time, keys, and how fresh all of it is.
 * @module
 */
import { type ReactNode, useEffect, useRef, useState } from "react";
import type { Names, Session } from "../api.ts";
import { apiUrl } from "./data/api_client.ts";
import { useNow } from "./data/clock.ts";
import { followLive, useLive } from "./data/live_store.ts";
import { NAMES_EMPTY, NamesContext, SessionContext, useSession } from "./data/session.ts";
import { isDark, setTheme, useTheme } from "./data/theme.ts";
import { navigate, setTitle, urlOf, urlState, useUrlState } from "./data/url_store.ts";
import { useAnswer } from "./data/use_answer.ts";
import { useFilter } from "./data/use_filter.ts";
import { DropsPage } from "./drops/drops_page.tsx";
import { FlowsPage } from "./flows/flows_page.tsx";
import { HealthPage } from "./health/health_page.tsx";
import { MapPage } from "./map/map_page.tsx";
import { formatClock } from "./model/number_format.ts";
import { otherPage, type Page, PAGES } from "./model/url_state.ts";
import { KeysIcon, MoonIcon, SunIcon } from "./parts/icons.tsx";
import { TimeStrip } from "./parts/time_strip.tsx";
import { Badge } from "./parts/verdict.tsx";
import { PoliciesPage } from "./policies/policies_page.tsx";

const TITLES: Readonly<Record<Page, string>> = {
  map: "Map",
  flows: "Flows",
  drops: "Drops",
  policies: "Policies",
  health: "Health",
};
const VIEWS: Readonly<Record<Page, () => ReactNode>> = {
  map: MapPage,
  flows: FlowsPage,
  drops: DropsPage,
  policies: PoliciesPage,
  health: HealthPage,
};

/** Pages that a filter is of. */
const FILTERED: readonly Page[] = ["map", "flows", "drops"];
const NO_FILTER: readonly (readonly [string, string])[] = [];

export function App() {
  const { page } = useUrlState();
  const session = useAnswer<Session>(apiUrl("session"), 30_000);
  const names = useAnswer<Names>(apiUrl("names"), 15_000);
  const [help, setHelp] = useState(false);
  useEffect(() => setTitle(`${TITLES[page]} · Weir${session.value?.lab ? ` · ${session.value.lab}` : ""}`), [
    page,
    session.value,
  ]);
  useLinks();
  useKeys(() => setHelp(true));
  const View = VIEWS[page];
  return (
    <SessionContext.Provider value={session.value}>
      <NamesContext.Provider value={names.value ?? NAMES_EMPTY}>
        <Following />
        <div className="app">
          <a className="skip" href="#main">Skip to the page</a>
          <header className="top">
            <a className="brand" href={urlOf(otherPage(urlState(), "map"))}>
              <Mark />
              Weir <Place />
            </a>
            <nav className="tabs" aria-label="Pages">
              {PAGES.map((each) => (
                <a
                  key={each}
                  href={urlOf(otherPage(urlState(), each))}
                  aria-current={each === page ? "page" : undefined}
                >
                  {TITLES[each]}
                </a>
              ))}
            </nav>
            <div className="top-end">
              <Freshness />
              <button
                type="button"
                className="button plain square"
                aria-label="Keys"
                title="Keys (?)"
                onClick={() => setHelp(true)}
              >
                <KeysIcon />
              </button>
              <ThemeButton />
            </div>
          </header>
          <TimeStrip />
          <main className="main" id="main" tabIndex={-1}>
            <View key={page} />
          </main>
        </div>
        <Help open={help} onClose={() => setHelp(false)} />
      </NamesContext.Provider>
    </SessionContext.Provider>
  );
}

/** Follows what is live of what is looked at. */
function Following() {
  const { page, group } = useUrlState(), { parameters } = useFilter();
  const filter = FILTERED.includes(page) ? parameters : NO_FILTER;
  useEffect(() => followLive(group, filter), [group, filter]);
  return null;
}

function Place() {
  const session = useSession();
  return <span>{session ? session.lab || session.cluster : ""}</span>;
}

function Mark() {
  return (
    <svg viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" fill="#0f4c5c" />
      <path
        d="M4 12c4-4 8 4 12 0s8 4 12 0"
        fill="none"
        stroke="#9ad1d4"
        strokeWidth="3"
        strokeLinecap="round"
      />
      <path d="M6 21v5M12 21v5M20 21v5M26 21v5M4 20h24" stroke="#fff" strokeWidth="3" strokeLinecap="round" />
    </svg>
  );
}

/** How complete and how fresh what is shown is: always in sight. */
function Freshness() {
  const { map, sources, stream } = useLive();
  const { window } = useUrlState();
  const now = useNow();
  if (stream.kind === "broken") {
    const waitS = Math.max(0, Math.ceil(stream.retryAtMs / 1000 - now));
    return (
      <div className="status" role="status">
        <Badge tone="dropped">cut off</Badge>
        <span className="wide cut">
          {stream.error.message}
          {stream.error.status === 401
            ? `. ${stream.error.action}`
            : waitS > 0
            ? `; again in ${waitS} s`
            : ""}
        </span>
      </div>
    );
  }
  const silentS = stream.kind === "open" ? now - stream.heardMs / 1000 : 0;
  const away = sources?.away ?? [];
  return (
    <div className="status" role="status" aria-live="off">
      {away.length > 0 && (
        <a
          href={urlOf(otherPage(urlState(), "health"))}
          title={away.map(({ node, reason }) => `${node}: ${reason}`).join("\n")}
        >
          <Badge tone="audited">
            {away.length === 1 ? `${away[0].node} is away` : `${away.length} nodes are away`}
          </Badge>
        </a>
      )}
      {sources && sources.error !== "" && <Badge tone="dropped">no flows</Badge>}
      {stream.kind === "connecting"
        ? <Badge tone="quiet">connecting</Badge>
        : silentS > 8
        ? <Badge tone="audited">silent for {Math.round(silentS)} s</Badge>
        : null}
      {map && !window && (
        <span className="wide number">{map.completeness.text} since {formatClock(map.sinceUnixS)}</span>
      )}
    </div>
  );
}

function ThemeButton() {
  useTheme();
  const dark = isDark();
  const label = dark ? "Light colours" : "Dark colours";
  return (
    <button
      type="button"
      className="button plain square"
      aria-label={label}
      title={label}
      onClick={() => setTheme(dark ? "light" : "dark")}
    >
      {dark ? <SunIcon /> : <MoonIcon />}
    </button>
  );
}

/** Links to this page change the state, and load nothing. */
function useLinks(): void {
  useEffect(() => {
    const onClick = (event: MouseEvent) => {
      if (
        event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey ||
        event.altKey
      ) {
        return;
      }
      const link = (event.target as Element).closest?.("a");
      if (
        !link || link.target !== "" || link.origin !== location.origin ||
        !link.href.startsWith(document.baseURI)
      ) return;
      event.preventDefault();
      // "#main" is below the base, not below this page.
      if (link.hash !== "") return document.getElementById(link.hash.slice(1))?.focus();
      history.pushState(null, "", link.href);
      dispatchEvent(new PopStateEvent("popstate"));
    };
    addEventListener("click", onClick);
    return () => removeEventListener("click", onClick);
  }, []);
}

const KEYS: readonly [string, string][] = [
  ["1 … 5", "Map, flows, drops, policies, health"],
  ["/", "To the filter, or to find a card"],
  ["l", "Back to live"],
  ["p", "Pause or resume the flows"],
  ["↑ ↓ ← →", "From card to card, from row to row; ends of the window"],
  ["Enter", "Open what has the focus"],
  ["Esc", "Close the panel"],
  ["?", "These keys"],
];

function useKeys(onHelp: () => void): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      if ((event.target as Element).closest?.("input, textarea, select, dialog")) return;
      const page = PAGES[Number(event.key) - 1];
      if (page) navigate(otherPage(urlState(), page));
      else if (event.key === "l") navigate({ window: null });
      else if (event.key === "?") onHelp();
      else if (event.key === "/") document.querySelector<HTMLElement>("[data-filter]")?.focus();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}

function Help({ open, onClose }: { open: boolean; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  return (
    <dialog ref={dialog} onClose={onClose} aria-labelledby="keys-title">
      <div className="block">
        <h2 id="keys-title">Keys</h2>
        <dl className="keys">
          {KEYS.map(([key, text]) => (
            <div key={key} className="keys-row">
              <dt>
                <kbd>{key}</kbd>
              </dt>
              <dd>{text}</dd>
            </div>
          ))}
        </dl>
        <button type="button" className="button" onClick={onClose}>Close</button>
      </div>
    </dialog>
  );
}
