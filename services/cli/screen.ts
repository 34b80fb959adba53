/**
 * What stdout can show: how wide it is and whether it has colours. A pipe or a file gets plain text of any width.
 *
 * @module
 */

/** The place that text is written to. */
export interface Screen {
  /** Columns of the terminal; undefined: no end. */
  readonly columns?: number;
  readonly colours: boolean;
}

/** Neither end nor colours: pipes, files, tests. */
export const PLAIN: Screen = { colours: false };
const NARROWEST = 40;

/** The screen of this process's stdout. NO_COLOR (any value) turns colours off; the width is the terminal's. */
export function processScreen(): Screen {
  if (!Deno.stdout.isTerminal()) return PLAIN;
  const colours = !Deno.env.get("NO_COLOR") && Deno.env.get("TERM") !== "dumb";
  try {
    const { columns } = Deno.consoleSize();
    return { colours, columns: columns > 0 ? Math.max(NARROWEST, columns) : undefined };
  } catch {
    return { colours };
  }
}

const GREEN = 32, YELLOW = 33, RED = 31;
/** Words of state, and how they are meant; a cell or a verdict begins with one of them. */
const TONES: readonly [colour: number, words: RegExp][] = [
  [
    RED,
    /^(denied|dropped|failed|error|hung|away|dead|gone|removed|expired|unreachable|silent|crashed|ended|not-ready|nobody|no:|no-answer|refused|too-big)/i,
  ],
  [
    YELLOW,
    /^(degraded|stale|partitioned|starting|waiting|pending|<pending>|terminating|maintenance|quarantined|restarting|unconfirmed|audit|0\/|over its share|unknown|regenerating|behind)/i,
  ],
  [GREEN, /^(ready|ok|running|active|allowed|forwarded|all )/i],
];
/** Cells that begin with a word of state, in columns that tell one. */
const STATE_TITLES = /^(STATE|RESULT|GOT|VERDICT|IN FORCE|SELECTS|BACKENDS)$/;

/** Whether a column with this title tells a state. */
export function tellsState(title: string): boolean {
  return STATE_TITLES.test(title);
}

/** The text in the colour of what it says: green is well, yellow wants a look, red is not well. */
export function paint(text: string, screen: Screen): string {
  if (!screen.colours) return text;
  const tone = TONES.find(([, words]) => words.test(text));
  return tone === undefined ? text : `\x1b[${tone[0]}m${text}\x1b[0m`;
}

/** Text that stands out. */
export function strong(text: string, screen: Screen): string {
  return screen.colours ? `\x1b[1m${text}\x1b[0m` : text;
}
