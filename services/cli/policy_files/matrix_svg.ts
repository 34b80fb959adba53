/**
 * A matrix as a picture: a square for each pair, whose title says the ports. It stands alone: no script, no font and no address of others.
 * @module
 */
import { formatRanges, type Matrix, type MatrixCell } from "@weir/policy-engine/offline";
import { harmless } from "../harmless_text.ts";
import { cellsByPair } from "./matrix_text.ts";

const SQUARE = 22;
const LETTER = 6.6;
const MARGIN = 16;

/** The picture's text. */
export function matrixSvg(matrix: Matrix): string {
  const { ends } = matrix, cellOf = cellsByPair(matrix);
  const names = Math.ceil(Math.max(...ends.map(({ name }) => name.length)) * LETTER) + 12;
  const size = ends.length * SQUARE, width = names + size + MARGIN, height = names + size + 72;
  const parts: string[] = [];
  for (const [at, { name }] of ends.entries()) {
    const middle = names + at * SQUARE + SQUARE / 2;
    parts.push(`<text x="${names - 6}" y="${middle + 4}" text-anchor="end">${escaped(name)}</text>`);
    parts.push(
      `<text transform="translate(${middle + 4} ${names - 6}) rotate(-90)">${escaped(name)}</text>`,
    );
  }
  for (const [row, from] of ends.entries()) {
    for (const [column, to] of ends.entries()) {
      const cell = cellOf(from, to);
      if (cell === undefined) continue;
      const x = names + column * SQUARE, y = names + row * SQUARE, kind = kindOf(cell);
      const title = `${from.name} to ${to.name}: ${WORDS[kind]}${portsText(cell)}`;
      parts.push(
        `<g class="${kind}"><title>${escaped(title)}</title>` +
          `<rect x="${x + 1}" y="${y + 1}" width="${SQUARE - 2}" height="${SQUARE - 2}" rx="3"/>` +
          `<text x="${x + SQUARE / 2}" y="${y + SQUARE / 2 + 4}" text-anchor="middle">${
            SIGNS[kind]
          }</text></g>`,
      );
    }
  }
  const legend = (Object.keys(WORDS) as Kind[]).map((kind, at) =>
    `<g class="${kind}" transform="translate(${MARGIN} ${names + size + 12 + at * 14})">` +
    `<rect width="10" height="10" rx="2"/></g><text x="${MARGIN + 18}" y="${names + size + 21 + at * 14}">` +
    `${SIGNS[kind]} ${WORDS[kind]}</text>`
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${
    Math.max(width, 260)
  }" height="${height}" role="img">` +
    `<title>Who reaches whom: lines are sources, columns destinations</title><style>${STYLE}</style>\n` +
    `<rect class="page" width="100%" height="100%"/>\n${parts.join("\n")}\n${legend.join("\n")}\n</svg>\n`;
}

type Kind = "open" | "part" | "judged" | "closed";

const WORDS: Readonly<Record<Kind, string>> = {
  open: "every port",
  part: "some ports",
  judged: "by L7 rules",
  closed: "nothing",
};
/** Never by colour alone. */
const SIGNS: Readonly<Record<Kind, string>> = { open: "●", part: "◐", judged: "?", closed: "–" };

function kindOf({ ports, judged }: MatrixCell): Kind {
  if (ports.length === 0) return "closed";
  if (judged.length > 0) return "judged";
  return formatRanges(ports) === "all" ? "open" : "part";
}

function portsText({ ports }: MatrixCell): string {
  const text = formatRanges(ports);
  return text === "" || text === "all" ? "" : ` (${text})`;
}

const STYLE = "text{font:11px ui-monospace,monospace;fill:#1c2430}.page{fill:#fff}" +
  ".open rect{fill:#7fc8a0}.part rect{fill:#bfe0f5}.judged rect{fill:#f2d38a}.closed rect{fill:#eceff3}" +
  "@media(prefers-color-scheme:dark){text{fill:#e6e9ee}.page{fill:#12161c}.open rect{fill:#2c7a51}" +
  ".part rect{fill:#27567a}.judged rect{fill:#7a5c15}.closed rect{fill:#232a33}}";

function escaped(text: string): string {
  return harmless(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}
