/** All pages, by number of the code. @module */
import { codeLabel, CODES } from "@weir/verifier";
import type { Page } from "./page.ts";
import { CALL_PAGES } from "./pages_calls.ts";
import { MEMORY_PAGES } from "./pages_memory.ts";
import { OBJECT_CODES, OBJECT_PAGES } from "./pages_object.ts";
import { STRUCTURE_PAGES } from "./pages_structure.ts";

export type { Page } from "./page.ts";

const PAGES: ReadonlyMap<number, Page> = new Map(
  [...STRUCTURE_PAGES, ...MEMORY_PAGES, ...CALL_PAGES, ...OBJECT_PAGES].map((page) => [page.number, page]),
);

/** The page about a code; undefined when there is no such code. */
export function pageOf(code: number): Page | undefined {
  return PAGES.get(code);
}

/** All codes that have a page. */
export function pageNumbers(): number[] {
  return [...PAGES.keys()].sort((a, b) => a - b);
}

/** Short name of a code, `packet-out-of-bounds`. */
export function codeName(code: number): string {
  const own = Object.entries(OBJECT_CODES).find(([, number]) => number === code)?.[0];
  const others: Record<number, string> = {
    215: "unreadable-file",
    216: "no-program",
    217: "verifier-failed",
    218: "half-of-visit-limit",
    219: "missing-in-kernel",
  };
  return CODES.get(code)?.name ?? (own === undefined ? others[code] ?? "" : `object-${own}`);
}

/** Number of a code written as `WV0070`, `wv70`, `70` or by its name; undefined when there is none. */
export function parseCode(text: string): number | undefined {
  const digits = /^(?:wv)?0*(\d{1,4})$/i.exec(text)?.[1];
  const number = digits !== undefined
    ? Number(digits)
    : pageNumbers().find((code) => codeName(code) === text);
  return number !== undefined && PAGES.has(number) ? number : undefined;
}

/** The page as text, for a terminal. */
export function renderPage(page: Page): string {
  const facts = CODES.get(page.number);
  const indent = (text: string): string => text.split("\n").map((line) => `    ${line}`).join("\n");
  const parts = [
    `${codeLabel(page.number)} ${codeName(page.number)} (${facts?.class ?? "unsupported"})`,
    "",
    page.meaning,
    "",
    `What to do: ${page.fix}.`,
  ];
  if (page.wrong !== "") parts.push("", "Wrong:", "", indent(page.wrong));
  if (page.right !== "") parts.push("", "Right:", "", indent(page.right));
  return parts.join("\n") + "\n";
}
