/** Requests of HTTP/1.1 that are legal, in the many ways in which a request may be written. Characters are bytes. @module */

/** Whole numbers below a limit. */
export type Dice = (below: number) => number;

const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE", "M-SEARCH", "X.y"];
const PATHS = [
  ...'/|/public|/a/b?c=d&e|/a//b|/a/../b|/a/./b/|/%41%2f%zz|/a;b=c/d|/a%20b|/?x=/../y|/"<>|/a\\b|/..|/%2e%2e/a|/a?b?c'
    .split("|"),
  ..."/ä|/a#b".split("|").map((path) => encodeURI(path).replace("#", "%23")),
];
export const HOSTS = [
  "a.example",
  "A.Example:80",
  "b.example:8080",
  "[fd00::1]:80",
  "192.0.2.1",
  "x_y.example",
];
/** Names and values of fields that say nothing of the message itself. */
export const FIELDS: readonly (readonly [name: string, value: string])[] = [
  ["Accept", "*/*"],
  ["accept", "text/html, a;q=0.5"],
  ["X-A", ""],
  ["X-A", "b"],
  ["X_A", "under"],
  ["x-a", "c, d,e"],
  ["Cookie", "a=b; c=d"],
  ["cookie", "e=f"],
  ["Authorization", "Basic ====="],
  ["X-Bytes", "\u00c3\u00a4\u00ff"],
  ["X-Tab", "a\tb"],
  ["X!#$%&'*+-.^_`|~9", "token"],
  ["Range", "bytes=0-1"],
  ["Content-Type", "application/json"],
  ["X-Colon", "a: b"],
  ["X-Long", "y".repeat(3000)],
  ["Forwarded", 'for="[::1]"'],
  ["Via", "1.1 x"],
];

const pick = <T>(dice: Dice, list: readonly T[]) => list[dice(list.length)];
const cased = (dice: Dice, name: string) => [name, name.toLowerCase(), name.toUpperCase()][dice(3)];

/** One of them. */
export function generatedRequest(dice: Dice): string {
  const method = pick(dice, METHODS), host = pick(dice, HOSTS), path = pick(dice, PATHS);
  const isOld = dice(12) === 0;
  const target = dice(6) === 0 && !host.includes("_") ? `http://${host}${path}` : path;
  const blank = () => pick(dice, ["", " ", " ", " ", "  ", "\t", " \t "]);
  const field = (name: string, value: string) =>
    `${name}:${blank()}${value}${dice(5) === 0 ? blank() : ""}\r\n`;
  const lines = [field(cased(dice, "Host"), host)];
  for (let count = dice(6); count > 0; count--) {
    lines.splice(dice(lines.length + 1), 0, field(...pick(dice, FIELDS)));
  }
  const add = (name: string, value: string) =>
    lines.splice(dice(lines.length + 1), 0, field(cased(dice, name), value));
  if (isOld || dice(10) === 0) {
    add("Connection", dice(2) === 0 ? "keep-alive" : pick(dice, ["close", "X-A", "keep-alive, X-Tab"]));
  }
  if (dice(15) === 0) add("TE", "trailers");
  const body = "x".repeat(dice(3) === 0 ? 0 : dice(dice(2) === 0 ? 20 : 2000));
  const head = (line: string) => `${line}${lines.join("")}\r\n`;
  const line = `${method} ${target} HTTP/1.${isOld ? 0 : 1}\r\n`;
  switch (dice(3)) {
    case 0:
      return head(line);
    case 1:
      add("Content-Length", `${dice(8) === 0 ? "00" : ""}${body.length}`);
      return head(line) + body;
    default:
      if (isOld) return head(line);
      add("Transfer-Encoding", pick(dice, ["chunked", "Chunked", "CHUNKED"]));
      return head(line) + chunked(dice, body);
  }
}

function chunked(dice: Dice, body: string): string {
  let text = "";
  for (let at = 0; at < body.length;) {
    const size = Math.min(body.length - at, 1 + dice(300)), digits = size.toString(16);
    text += `${dice(2) === 0 ? digits.toUpperCase() : `0${digits}`}${dice(5) === 0 ? ';a="b c"' : ""}\r\n`;
    text += `${body.slice(at, at + size)}\r\n`;
    at += size;
  }
  return `${text}0\r\n${dice(3) === 0 ? "X-Sum: 1\r\nX-B:\r\n" : ""}\r\n`;
}
