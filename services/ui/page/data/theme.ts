/**
 * Light or dark: the system's, or what the reader chose. Canvases ask here for the colours that sheets say by name.
 * @module
 */
import { useSyncExternalStore } from "react";

export type Theme = "system" | "light" | "dark";
const KEY = "weir-theme";
const NAMES = [
  "text",
  "text-soft",
  "surface",
  "border",
  "edge",
  "island",
  "island-border",
  "accent",
  "allowed",
  "dropped",
  "audited",
  "error",
  "bar",
  "bar-dropped",
] as const;
export type ColourName = typeof NAMES[number];
export type Colours = Readonly<Record<ColourName, string>>;

const listeners = new Set<() => void>();
let theme = stored();
let colours: Colours | undefined;

function stored(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "system";
  } catch {
    // Storage can be forbidden.
    return "system";
  }
}

function apply(): void {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  colours = undefined;
  for (const listener of listeners) listener();
}

apply();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);

export function setTheme(next: Theme): void {
  theme = next;
  try {
    localStorage.setItem(KEY, next);
  } catch { /* it holds until the page is closed */ }
  apply();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const useTheme = (): Theme => useSyncExternalStore(subscribe, () => theme);

/** Whether the page is dark now, whoever chose it. */
export const isDark = (): boolean =>
  theme === "dark" || (theme === "system" && matchMedia("(prefers-color-scheme: dark)").matches);

/** The colours as canvases take them; other ones after the theme changed. */
export const useColours = (): Colours => useSyncExternalStore(subscribe, resolved);

function resolved(): Colours {
  if (colours) return colours;
  // `light-dark()` in a custom property stays as it is written; in a colour it is resolved.
  const probe = document.createElement("span");
  document.body.append(probe);
  const found: Partial<Record<ColourName, string>> = {};
  for (const name of NAMES) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return colours = found as Colours;
}
