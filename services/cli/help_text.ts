/**
 * Manuals as text on a terminal.
 *
 * @module
 */
import { EXIT_CODES, flagsOf, type FlagTexts, GLOBAL_FLAGS, type Manual } from "./manual/manual.ts";

const WIDTH = 120;

/** All commands in one line each. */
export function overviewText(manuals: Readonly<Record<string, Manual>>): string {
  const width = Math.max(...Object.keys(manuals).map((name) => name.length));
  const lines = Object.entries(manuals).map(([name, { summary }]) => `  ${name.padEnd(width)}   ${summary}`);
  return `weir: networking, security and observability of workloads from their identity

${lines.join("\n")}

  weir help COMMAND says more.

First steps:
  weir lab up -f deploy/examples/star-wars      a lab of two nodes with the cast
  weir lab exec alliance/xwing -- curl -s --max-time 2 deathstar-1.empire
  weir observe --last 5                         what happened to it; -f follows
  weir policy apply -f deploy/examples/star-wars/policies
  weir policy explain --from alliance/xwing --to empire/deathstar-1 --port 80/TCP

${everywhere()}`;
}

/** Everything about one command. */
export function helpText(name: string, { summary, verbs, notes }: Manual): string {
  const parts = [`${summary[0].toUpperCase()}${summary.slice(1)}.`];
  for (const [verb, { words, says, flags = {} }] of Object.entries(verbs)) {
    const hasFlags = Object.keys(flags).length > 0;
    const line = ["weir", name, verb, hasFlags ? "[flags]" : "", words ?? ""].filter((word) => word !== "");
    parts.push(
      [line.join(" "), ...wrap(says, WIDTH - 2).map((text) => `  ${text}`), ...flagLines(flags)].join("\n"),
    );
  }
  if (notes !== undefined) parts.push(notes.trimEnd());
  return `${parts.join("\n\n")}\n\n${everywhere()}`;
}

function everywhere(): string {
  const codes = Object.entries(EXIT_CODES).map(([code, says]) => `${code} ${says}`).join(", ");
  return `Everywhere:\n${flagLines(GLOBAL_FLAGS).join("\n")}\n\nExit codes: ${codes}.\n`;
}

/** Two columns; a flag that is too long for the first has a line of its own. */
function flagLines(flags: FlagTexts): string[] {
  const column = 30;
  return flagsOf(flags).flatMap(({ text, short, says }) => {
    const flag = `  ${short === undefined ? "    " : ""}${text}`;
    const lines = wrap(says, WIDTH - column - 2).map((line) => `${" ".repeat(column + 2)}${line}`);
    if (flag.length > column) return [flag, ...lines];
    return [`${flag.padEnd(column + 2)}${lines[0].trimStart()}`, ...lines.slice(1)];
  });
}

function wrap(text: string, width: number): string[] {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines[lines.length - 1];
    if (line !== "" && line.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = line === "" ? word : `${line} ${word}`;
  }
  return lines;
}
