/**
 * The state that is in the address, for components: read it, change it.
 * @module
 */
import { useSyncExternalStore } from "react";
import { formatUrlState, readUrlState, type UrlState } from "../model/url_state.ts";

const listeners = new Set<() => void>();
let current = read();
let title = "";

function read(): UrlState {
  const base = new URL(document.baseURI).pathname;
  const path = location.pathname.startsWith(base) ? location.pathname.slice(base.length) : "";
  return readUrlState(path, location.search);
}

function tell(): void {
  for (const listener of listeners) listener();
}

addEventListener("popstate", () => {
  current = read();
  tell();
});

/** The state now. */
export const urlState = (): UrlState => current;

/** Address of a state with some of it changed; for links. */
export function urlOf(change: Partial<UrlState>): string {
  return new URL(formatUrlState({ ...current, ...change }), document.baseURI).href;
}

/**
 * Changes some of the state.
 * @param replace No step of its own in the browser's history: for what is typed or dragged.
 */
export function navigate(change: Partial<UrlState>, { replace = false } = {}): void {
  const next = { ...current, ...change };
  const url = new URL(formatUrlState(next), document.baseURI).href;
  if (url === location.href) return;
  current = next;
  if (replace) history.replaceState(null, "", url);
  else history.pushState(null, "", url);
  tell();
}

/** The state, and a new one each time that it changes. */
export function useUrlState(): UrlState {
  return useSyncExternalStore(subscribe, urlState);
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Names the browser's tab. */
export function setTitle(text: string): void {
  if (text !== title) document.title = title = text;
}
