/** The form of a page about a code. @module */

/** What `weir verify --explain` prints about a code. */
export interface Page {
  readonly number: number;
  /** What the code means and why it matters. */
  readonly meaning: string;
  /** What to do, one sentence; also the suggestion in reports. */
  readonly fix: string;
  /** C that gets this answer; empty where no C does (damaged objects). */
  readonly wrong: string;
  /** The same, right. */
  readonly right: string;
}

/** Rows keep the tables short. */
export function pages(rows: readonly (readonly [number, string, string, string?, string?])[]): Page[] {
  return rows.map(([number, meaning, fix, wrong = "", right = ""]) => ({
    number,
    meaning,
    fix,
    wrong,
    right,
  }));
}
